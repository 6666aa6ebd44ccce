import EditJob
package import JSON
import Journal
import Ledger
package import SharedValues

/// One submission of a job, as the ledger tells it.
package struct SubmissionRecord: Hashable, Sendable {
    package enum Result: String, CaseIterable, Sendable {
        /// Accepted by the API.
        case submitted
        /// Refused for certain, or ended before it was accepted; nothing was charged.
        case refused
        /// Whether it was accepted is unknown.
        case unknown
        /// Not accepted for certain, and the job is or was to be tried again.
        case returned
        case running
    }

    package let jobID: String
    /// The job that this one was made from by a correction.
    package let editedFrom: String?
    /// `HOST:PID` of the worker.
    package let worker: String
    package internal(set) var submittedAt: Timestamp
    /// Images that the job asked for at most.
    package let images: Int
    package internal(set) var endedAt: Timestamp?
    package internal(set) var result = Result.running
    /// The task id of one that was accepted.
    package internal(set) var taskID: String?
    package internal(set) var code: String?
    /// How its task ended, if it was followed: `completed`, or why there are no images.
    package internal(set) var followed: String?
    /// The message with which it was begun.
    let begun: LedgerMessage.ID

    /// `yes`, `no` or `maybe`.
    package var charged: String {
        switch result {
        // As the reply says: that there are no images does not tell whether they were paid for.
        case .submitted where followed.map { $0 != "completed" } ?? false: "maybe"
        case .submitted: "yes"
        case .refused, .returned: "no"
        case .unknown, .running: "maybe"
        }
    }

    /// The submission for programs.
    package var json: JSONValue {
        var members = [
            JSONMember("job_id", .string(jobID)), JSONMember("result", .string(result.rawValue)),
            JSONMember("submitted_at", .string(submittedAt.description)),
        ]
        if let endedAt { members.append(JSONMember("ended_at", .string(endedAt.description))) }
        members += [
            JSONMember("worker", .string(worker)), JSONMember("images", .integer(Int64(images))),
            JSONMember("charged", .string(charged)),
        ]
        if let taskID { members.append(JSONMember("task_id", .string(taskID))) }
        if let code { members.append(JSONMember("code", .string(code))) }
        if let editedFrom { members.append(JSONMember("edited_from", .string(editedFrom))) }
        if let followed { members.append(JSONMember("followed", .string(followed))) }
        return .object(members)
    }

    init(_ request: JournalRequest, _ message: LedgerMessage) {
        jobID = request.id
        editedFrom = request.editedFrom
        worker = message.writer
        begun = message.id
        submittedAt = Timestamp(milliseconds: message.at)
        images = request.images
    }
}
