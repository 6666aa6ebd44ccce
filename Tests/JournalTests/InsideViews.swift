import NIOConcurrencyHelpers

@testable import Journal

// What tests measure, and nobody else asks.

extension MemoryJournal {
    var count: Int { state.withLockedValue { $0.count } }
    /// Places in the row of finished entries.
    var rowLength: Int { state.withLockedValue { $0.finished.count } }
}
