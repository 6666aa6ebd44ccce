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
