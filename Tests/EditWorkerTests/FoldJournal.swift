import EditJob
import Journal
import Ledger
import NIOConcurrencyHelpers
import SharedValues

/// The ledger's fold without its stream: what one replica writes all others know at once.
final class FoldJournal: SubmissionJournal {
    /// What all replicas have read, and which of them are gone.
    final class Shared: Sendable {
        fileprivate struct State {
            var ledger = LedgerState(retention: .max)
            var offset: Int64 = 0
            var tasks: [String: String] = [:]
            var gone: Set<String> = []
            var replicas = 0

            mutating func write(_ records: [LedgerRecord], by name: String) -> [LedgerState.Answer] {
                offset += 1
                let now = Timestamp.now.milliseconds
                for case .end(let id, let end) in records {
                    if case .accepted(let taskID, _) = end.verdict { tasks[id] = taskID }
                }
                return ledger.apply(
                    LedgerMessage(replica: name, writer: name, number: offset, at: now, records: records),
                    at: offset
                )
            }
        }

        fileprivate let state = NIOLockedValueBox(State())

        func cancel(_ id: String) {
            state.withLockedValue { _ = $0.write([.cancel([CancelledJob(id: id)], reason: "")], by: "operator") }
        }
    }

    private let shared: Shared
    private let name: String

    init(_ shared: Shared) {
        self.shared = shared
        name = shared.state.withLockedValue { state in
            state.replicas += 1
            return "replica-\(state.replicas)"
        }
    }

    func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        shared.state.withLockedValue { state in
            while true {
                var answer = state.ledger.answer(to: request, by: name, at: Timestamp.now.milliseconds)
                if answer.mustBeWritten, let written = state.write([.begin(request)], by: name).first {
                    answer = written
                }
                switch answer.prior {
                case .running:
                    guard let holder = answer.holder, state.gone.contains(holder.replica) else { return .running }
                    _ = state.write([.abandon(id: request.id, begun: holder)], by: name)
                case .ended(.accepted, let attempts, let isMarked):
                    let verdict = Verdict.accepted(taskID: state.tasks[request.id] ?? "lost", at: .now)
                    return .ended(verdict, attempts: attempts, mayBeDuplicate: isMarked)
                case .never, .possible, .withdrawn, .ended: return answer.prior
                }
            }
        }
    }

    func finish(_ id: String, _ end: JobEnd) async throws(JournalFault) {
        shared.state.withLockedValue { _ = $0.write([.end(id: id, end.recorded)], by: name) }
    }

    func acknowledged(_ id: String) async throws(JournalFault) {
        shared.state.withLockedValue { _ = $0.write([.settled(id: id)], by: name) }
    }

    func mark(wasDeliveredBefore: Bool, awaitsVerdict: Bool) -> DeliveryMark { DeliveryMark(isInDoubt: false) }

    func doubt() -> DeliveryMark { DeliveryMark(isInDoubt: false) }

    func isCancelled(_ id: String) -> Bool { shared.state.withLockedValue { $0.ledger.isCancelled(id) } }

    func sweep(before moment: Int64) async throws(JournalFault) {}

    /// The process is gone.
    func close() async { _ = shared.state.withLockedValue { $0.gone.insert(name) } }
}
