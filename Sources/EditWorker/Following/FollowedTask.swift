package import RabbitMQ
package import SharedValues

/// A task that is followed to its images: a copy of its job with what is known of the task in the headers.
package struct FollowedTask: Sendable {
    /// Looks in a row that brought nothing, and until when no more are wanted.
    package struct Misses: Hashable, Sendable {
        /// The API did not know the task.
        package var missing = 0
        /// Since when it has not.
        package var missingSince: Timestamp?
        /// The result could not be read.
        package var unreadable = 0
        /// The API wants no look before that.
        package var notBefore: Timestamp?
        /// What the last look saw.
        package var last: String?

        package init() {}
    }

    /// The job, as the delivery brings it.
    package let job: ReceivedJob
    /// The API's name of the task.
    package let taskID: String
    /// When the task was submitted.
    package let submittedAt: Timestamp
    /// From when on the waits and the deadline count: its submission, or when a person wanted it followed once more.
    package let followedSince: Timestamp
    package let misses: Misses

    /// Reads a delivery of a follow queue; nil if it has no task.
    package init?(_ job: ReceivedJob) {
        let headers = job.delivery.properties.headers ?? [:]
        guard let taskID = headers[JobHeader.taskID]?.text, !taskID.isEmpty else { return nil }
        self.job = job
        self.taskID = taskID
        submittedAt = headers[JobHeader.submittedAt]?.text.flatMap { Timestamp(rfc3339: $0) } ?? job.firstReceivedAt
        followedSince = headers[JobHeader.followSince]?.text.flatMap { Timestamp(rfc3339: $0) } ?? submittedAt
        var misses = Misses()
        misses.missing = Self.count(headers[JobHeader.followMissing])
        misses.unreadable = Self.count(headers[JobHeader.followUnreadable])
        misses.missingSince = headers[JobHeader.followMissingSince]?.text.flatMap { Timestamp(rfc3339: $0) }
        misses.last = headers[JobHeader.followLast]?.text
        misses.notBefore = headers[JobHeader.followNotBefore]?.text.flatMap { Timestamp(rfc3339: $0) }
        self.misses = misses
    }

    /// Anything may stand in a header.
    private static func count(_ value: FieldValue?) -> Int { Int(min(max(0, value?.integer ?? 0), 1000)) }

    /// The time since its submission.
    package func age(at now: Timestamp) -> Duration { Self.duration(from: submittedAt, to: now) }

    /// For how long it has been followed.
    package func followed(at now: Timestamp) -> Duration { Self.duration(from: followedSince, to: now) }

    /// Anything may stand in a header.
    static func duration(from start: Timestamp, to end: Timestamp) -> Duration {
        .milliseconds(max(0, min(end.milliseconds, 1 << 50) - max(0, min(start.milliseconds, 1 << 50))))
    }

    /// The headers of a copy that waits.
    package static func headers(
        taskID: String,
        submittedAt: Timestamp,
        attempts: Int,
        mayBeDuplicate: Bool,
        since: Timestamp? = nil,
        misses: Misses = Misses()
    ) -> FieldTable {
        var headers: FieldTable = [
            JobHeader.taskID: .text(taskID), JobHeader.submittedAt: .text(submittedAt.description),
            JobHeader.attempts: .int32(Int32(clamping: attempts)),
            JobHeader.followMissing: .int32(Int32(clamping: misses.missing)),
            JobHeader.followUnreadable: .int32(Int32(clamping: misses.unreadable)),
        ]
        if mayBeDuplicate { headers[JobHeader.mayBeDuplicate] = .boolean(true) }
        if let since, since != submittedAt { headers[JobHeader.followSince] = .text(since.description) }
        if let since = misses.missingSince { headers[JobHeader.followMissingSince] = .text(since.description) }
        if let last = misses.last { headers[JobHeader.followLast] = .text(last) }
        if let notBefore = misses.notBefore { headers[JobHeader.followNotBefore] = .text(notBefore.description) }
        return headers
    }
}
