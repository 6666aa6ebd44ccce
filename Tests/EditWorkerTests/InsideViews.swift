import NIOConcurrencyHelpers
import SeedreamAPI
import SharedValues

@testable import EditWorker
@testable import Journal

// What tests wait for or measure, and nobody else asks.

extension Gate {
    /// Tasks that wait for something here.
    var waiting: Int { state.withLockedValue { $0.waiters.count } }
}

extension Ticket {
    /// Starts without a connection; false if the gate has closed or the drain has begun.
    mutating func starts() async -> Bool {
        switch await start(reserving: { Reservation() }, { true }) {
        case .go: true
        case .gateClosed: false
        case .refused: false
        }
    }
}

extension JobJournal {
    /// Copies that wait for the verdict on a job.
    func waiting(for id: String) -> Int { state.withLockedValue { $0.places[id]?.waiters?.count ?? 0 } }
}

extension MemoryJournal {
    var count: Int { state.withLockedValue { $0.count } }
}
