package import JSON
package import SharedValues

/// What a producer hears of a job.
package struct Reply: Hashable, Sendable {
    /// How a job ended.
    package enum Status: Hashable, Sendable {
        /// The API has taken it.
        case submitted(taskID: String)
        /// It has not, or it is unknown; with the task if the API had taken it.
        indirect case failed(JobFailure, taskID: String? = nil)
        /// Its images are there.
        indirect case completed(taskID: String, images: [String], submittedAt: Timestamp)
    }

    /// More violations than a person reads would only make a reply that no queue takes.
    package static let mostViolations = 1000

    package var jobID: String
    package var status: Status
    /// Counted submissions, this one included.
    package var attempts: Int
    package var at: Timestamp
    /// Whether an earlier attempt may have been accepted too.
    package var mayBeDuplicate: Bool
    /// Whether the task id comes from the journal and nothing was submitted.
    package var duplicateOfDelivery: Bool
    /// Whether another reply comes, with the images.
    package var follows = false

    package init(
        jobID: String,
        status: Status,
        attempts: Int,
        at: Timestamp,
        mayBeDuplicate: Bool = false,
        duplicateOfDelivery: Bool = false
    ) {
        self.jobID = jobID
        self.status = status
        self.attempts = attempts
        self.at = at
        self.mayBeDuplicate = mayBeDuplicate
        self.duplicateOfDelivery = duplicateOfDelivery
    }

    /// The reply's body; absent members are left out.
    package var json: JSONValue {
        var members: [JSONMember] = []
        members.reserveCapacity(7)
        members.append(JSONMember("job_id", .string(jobID)))
        switch status {
        case .submitted(let taskID):
            members.append(JSONMember("status", .string("submitted")))
            members.append(JSONMember("task_id", .string(taskID)))
            members.append(JSONMember("attempts", .integer(Int64(attempts))))
            members.append(JSONMember("submitted_at", .string(at.description)))
            if follows { members.append(JSONMember("follows", .boolean(true))) }
        case .completed(let taskID, let images, let submittedAt):
            members.append(JSONMember("status", .string("completed")))
            members.append(JSONMember("task_id", .string(taskID)))
            let urls = images.map { JSONValue.object([JSONMember("url", .string($0))]) }
            members.append(JSONMember("images", .array(urls)))
            members.append(JSONMember("attempts", .integer(Int64(attempts))))
            members.append(JSONMember("submitted_at", .string(submittedAt.description)))
            members.append(JSONMember("completed_at", .string(at.description)))
        case .failed(let failure, let taskID):
            members.append(JSONMember("status", .string("failed")))
            if let taskID { members.append(JSONMember("task_id", .string(taskID))) }
            members.append(JSONMember("attempts", .integer(Int64(attempts))))
            members.append(JSONMember("failed_at", .string(at.description)))
            members.append(JSONMember("charged", .string(failure.charged.rawValue)))
            members.append(JSONMember("error", Self.json(failure)))
        }
        if mayBeDuplicate { members.append(JSONMember("may_be_duplicate", .boolean(true))) }
        if duplicateOfDelivery { members.append(JSONMember("duplicate_of_delivery", .boolean(true))) }
        return .object(members)
    }

    private static func json(_ failure: JobFailure) -> JSONValue {
        var members = [
            JSONMember("code", .string(failure.code.rawValue)),
            JSONMember("message", .string(failure.message)),
        ]
        if let status = failure.httpStatus {
            members.append(JSONMember("http_status", .integer(Int64(status))))
        }
        if let answer = failure.apiAnswer { members.append(JSONMember("api_answer", .string(answer))) }
        if !failure.violations.isEmpty {
            members.append(JSONMember("violations", .array(failure.violations.prefix(mostViolations).map(\.json))))
        }
        return .object(members)
    }
}
