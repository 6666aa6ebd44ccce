import EditJob
import NIOConcurrencyHelpers

/// A journal in this process: it covers a lost broker connection and a producer that publishes twice, not a killed worker.
///
/// Bounded: beyond `capacity` the oldest finished entries are forgotten first. What is under way is never forgotten.
package final class MemoryJournal: SubmissionJournal {
    /// An entry apart from the table, up to three quarters of which are empty places.
    private final class Kept: Sendable {
        let entry: JournalEntry

        init(_ entry: JournalEntry) {
            self.entry = entry
        }
    }

    private struct State {
        private var kept: [String: Kept] = [:]
        /// Finished entries, oldest first; one that changed since stands further behind once more.
        var finished: [(id: String, changedAt: Int64)] = []
        var head = 0

        var count: Int { kept.count }

        subscript(id: String) -> JournalEntry? {
            get { kept[id]?.entry }
            set { kept[id] = newValue.map { Kept($0) } }
        }

        /// Forgets the oldest finished entry, unless it has changed since it was put into the row.
        mutating func forgetOldest() {
            let (id, changedAt) = finished[head]
            head += 1
            if let entry = self[id], entry.isFinished, entry.changedAt == changedAt { self[id] = nil }
            guard head > 1024, head > finished.count / 2 else { return }
            finished.removeFirst(head)
            head = 0
        }
    }

    private static let owner = "this process"
    private let capacity: Int
    private let state = NIOLockedValueBox(State())

    /// An empty journal.
    package init(capacity: Int = 100_000) {
        self.capacity = capacity
    }

    /// Entries at the moment.
    package var count: Int { state.withLockedValue { $0.count } }

    package func begin(_ request: JournalRequest) async throws(JournalFault) -> JournalAnswer {
        state.withLockedValue { state in
            let (answer, write) = JournalEntry.answer(
                to: request,
                given: state[request.id],
                by: Self.owner,
                now: Timestamp.now.milliseconds,
                isAlive: { _ in true }
            )
            if let write { state[request.id] = write }
            return answer
        }
    }

    package func finish(_ id: String, _ verdict: JournalVerdict) async throws(JournalFault) {
        state.withLockedValue { state in
            guard let entry = state[id] else { return }
            let now = Timestamp.now.milliseconds
            state[id] = entry.after(verdict, now: now)
            guard verdict != .released else { return }
            state.finished.append((id, now))
            while state.count > capacity, state.head < state.finished.count { state.forgetOldest() }
        }
    }

    package func sweep(before moment: Int64) async throws(JournalFault) {
        state.withLockedValue { state in
            while state.head < state.finished.count, state.finished[state.head].changedAt < moment {
                state.forgetOldest()
            }
        }
    }

    package func close() async {}
}
