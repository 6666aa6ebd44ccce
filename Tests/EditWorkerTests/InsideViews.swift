import NIOConcurrencyHelpers
import SharedValues

@testable import EditWorker
@testable import Journal

// What tests wait for or measure, and nobody else asks.

extension Admission {
    /// Tasks that wait for something here.
    var waiting: Int { state.withLockedValue { $0.waiters.count } }
}

extension JournalDesk {
    /// Copies that wait for the verdict on a job.
    func waiting(for id: String) -> Int { state.withLockedValue { $0.places[id]?.waiters?.count ?? 0 } }
}

extension MemoryJournal {
    var count: Int { state.withLockedValue { $0.count } }
}
