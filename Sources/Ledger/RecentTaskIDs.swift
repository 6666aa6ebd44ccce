import DequeModule
import EditJob
import Journal
package import SharedValues

/// A job's acceptance as its record tells it.
package struct Acceptance: Hashable, Sendable {
    package let taskID: String
    package let at: Timestamp

    /// The acceptance of a job in a message; nil if it has none.
    package init?(of id: String, in message: LedgerMessage) {
        for record in message.records {
            guard case .end(id, let end) = record, case .accepted(let taskID, let at) = end.verdict else { continue }
            self.init(taskID, at, message)
            return
        }
        return nil
    }

    init(_ taskID: String, _ at: Timestamp?, _ message: LedgerMessage) {
        self.taskID = taskID
        self.at = Timestamp(milliseconds: min(at?.milliseconds ?? message.at, message.at))
    }
}

/// The acceptances that came last: a job that comes again mostly comes soon, and reading its record from the stream takes
/// the broker 5 to 28 ms.
struct RecentTaskIDs: Hashable, Sendable {
    private struct Place: Hashable, Sendable {
        let id: String
        let offset: Int64
    }

    private struct Known: Hashable, Sendable {
        let acceptance: Acceptance
        let offset: Int64
    }

    private static let most = 4096

    private var byJob: [String: Known] = [:]
    private var order: Deque<Place> = []

    /// Keeps the task ids that a message tells, and forgets the oldest.
    mutating func read(_ message: LedgerMessage, at offset: Int64) {
        for record in message.records {
            guard case .end(let id, let end) = record, case .accepted(let taskID, let at) = end.verdict else {
                continue
            }
            byJob[id] = Known(acceptance: Acceptance(taskID, at, message), offset: offset)
            order.append(Place(id: id, offset: offset))
            guard order.count > Self.most, let oldest = order.popFirst() else { continue }
            if byJob[oldest.id]?.offset == oldest.offset { byJob[oldest.id] = nil }
        }
    }

    /// The acceptance of a job whose record stands at an offset.
    func acceptance(of id: String, at offset: Int64) -> Acceptance? {
        byJob[id].flatMap { $0.offset == offset ? $0.acceptance : nil }
    }
}
