import DequeModule
package import EditJob
import NIOConcurrencyHelpers
import SharedValues

/// A journal in this process: it covers a lost broker connection and a producer that publishes twice, not a killed worker.
///
/// Bounded: beyond `capacity` the oldest finished entries are forgotten first. What is under way is never forgotten.
package final class MemoryJournal: SubmissionJournal {
    struct State {
        private var kept: Set<PackedEntry> = []
        /// Finished entries, oldest first; one that changed since stands further behind once more.
        private(set) var finished: Deque<PackedEntry> = []

        var count: Int { kept.count }

        /// The oldest finished entry.
        var oldest: PackedEntry? { finished.first }

        /// Whether most of the row are places of entries that have changed since, such as a job that is refused again and
        /// again.
        var isRowStale: Bool { finished.count > 2 * kept.count + 1024 }

        private func isCurrent(_ old: PackedEntry) -> Set<PackedEntry>.Index? {
            guard let index = kept.firstIndex(of: old), kept[index].changedAt == old.changedAt,
                kept[index].entry.isFinished
            else { return nil }
            return index
        }

        /// Takes the places out of the row whose entries have changed since.
        mutating func tidyRow() {
            var seen: Set<PackedEntry> = []
            // From the newest: two changes in one millisecond look alike.
            let current = finished.reversed().filter { isCurrent($0) != nil && seen.insert($0).inserted }
            finished = Deque(current.reversed())
        }

        subscript(id: String) -> JournalEntry? {
            get {
                let probe = PackedEntry(probing: id)
                return kept.firstIndex(of: probe).map { kept[$0].entry }
            }
            set {
                guard let newValue else {
                    kept.remove(PackedEntry(probing: id))
                    return
                }
                kept.update(with: PackedEntry(newValue, of: id))
            }
        }

        /// Keeps a finished entry, and in the row for being forgotten.
        mutating func finish(_ id: String, _ entry: JournalEntry) {
            let packed = PackedEntry(entry, of: id)
            kept.update(with: packed)
            finished.append(packed)
        }

        /// Forgets the oldest finished entry, unless it has changed since it was put into the row.
        mutating func forgetOldest() {
            guard let old = finished.popFirst() else { return }
            if let index = isCurrent(old) { kept.remove(at: index) }
        }
    }

    private static let owner = "this process"
    private let capacity: Int
    let state = NIOLockedValueBox(State())

    package init(capacity: Int = 100_000) {
        self.capacity = capacity
    }

    package func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        state.withLockedValue { state in
            let (prior, write) = JournalEntry.prior(
                to: request,
                given: state[request.id],
                by: Self.owner,
                now: Timestamp.now.milliseconds,
                isAlive: { _ in true }
            )
            if let write {
                if write.isFinished { self.keep(write, of: request.id, in: &state) } else { state[request.id] = write }
            }
            return prior
        }
    }

    package func finish(_ id: String, _ end: JobEnd) async throws(JournalFault) {
        state.withLockedValue { state in
            guard let entry = state[id] else { return }
            let now = Timestamp.now.milliseconds
            guard let ended = entry.after(end, now: now) else {
                state[id] = nil
                return
            }
            keep(ended, of: id, in: &state)
        }
    }

    package func acknowledged(_ id: String) async throws(JournalFault) {
        state.withLockedValue { state in
            guard let entry = state[id]?.afterAcknowledgement(now: Timestamp.now.milliseconds) else { return }
            keep(entry, of: id, in: &state)
        }
    }

    private func keep(_ entry: JournalEntry, of id: String, in state: inout State) {
        state.finish(id, entry)
        if state.isRowStale { state.tidyRow() }
        while state.count > capacity, state.oldest != nil { state.forgetOldest() }
    }

    package func sweep(before moment: Int64) async throws(JournalFault) {
        state.withLockedValue { state in
            while let oldest = state.oldest, oldest.changedAt < moment { state.forgetOldest() }
        }
    }

    package func close() async {}
}
