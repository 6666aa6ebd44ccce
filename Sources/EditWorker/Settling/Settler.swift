package import EditJob
import JSON
import Journal
import RabbitMQ
import SharedValues

/// Puts settlements into effect: every message that replaces a delivery is confirmed when this returns.
package struct Settler: Sendable {
    /// Much longer than a publish takes, and much shorter than anything that it may wait for.
    private static let quickPublish = Duration.milliseconds(250)

    private static let longestQuestion = Duration.seconds(10)

    /// The requester of a direct reply is gone.
    private static let notRouted = PublishResult.returned(replyCode: 312, replyText: "NO_ROUTE")

    private static let contentType: ByteString = "application/json"
    private static let replyType: ByteString = "seedream.edit.result"
    private static let appID: ByteString = "seedream-worker"

    private let publisher: any MessagePublisher
    private let queues: JobQueues
    private let replies: ReplyAddress
    private let identity: WorkerIdentity
    private let metrics: WorkerMetrics
    private let follow: FollowPolicy?

    /// A settler that publishes through `publisher`.
    package init(
        publisher: any MessagePublisher,
        queues: JobQueues,
        replies: ReplyAddress,
        identity: WorkerIdentity,
        metrics: WorkerMetrics,
        follow: FollowPolicy? = nil
    ) {
        self.follow = follow
        self.publisher = publisher
        self.queues = queues
        self.replies = replies
        self.identity = identity
        self.metrics = metrics
    }

    /// Publishes what replaces the delivery.
    ///
    /// Throws `CancellationError` where the worker ends first; the delivery must stay unacknowledged then. Throws
    /// `StaleDelivery` where the delivery is gone before all is confirmed, unless the end is late.
    package func settle(_ end: JobEnd, of job: ReceivedJob) async throws {
        switch end.verdict {
        case .accepted(let taskID, let moment):
            let follows = follow?.follows(job) == true
            let at = moment ?? .now
            try await reply(.submitted(taskID: taskID), to: job, end, at: at, follows: follows)
            if follows { try await publishFollowed(taskID, of: job, end, at: at) }
        case .refused(let failure), .unknown(let failure):
            // A body that was too large to be kept gets into the dead letters by the broker, when the delivery is rejected.
            if job.delivery.isBodyKept {
                try await publishDeadLetter(failure, of: job, attempts: end.attempts)
            }
            try await reply(.failed(failure), to: job, end)
        case .retry(let wait):
            let queue = queues.retryQueue(for: wait) ?? queues.retries[queues.retries.count - 1]
            try await publishRetry(job, to: queue.name, end)
        case .givenBack(let why):
            let wasJudged = why != .notJudged
            var headers: FieldTable = [:]
            if why == .running || !wasJudged && job.awaitsVerdict { headers[JobHeader.awaitsVerdict] = .boolean(true) }
            if !wasJudged, job.wasDeliveredBefore { headers[JobHeader.deliveredBefore] = .boolean(true) }
            // What a store of one host has judged is not in doubt; a shared one may have lost what it knew meanwhile.
            let isStill = job.mark.isInDoubt && (!wasJudged || job.mark.losses != nil)
            if isStill { headers[JobHeader.inDoubt] = .boolean(true) }
            try await publishRetry(job, to: queues.retries[0].name, end, adding: headers)
        }
    }

    /// Lets a task wait for its first look.
    ///
    /// After the reply: an interruption in between is told and followed again, from the journal.
    private func publishFollowed(
        _ taskID: String,
        of job: ReceivedJob,
        _ end: JobEnd,
        at moment: Timestamp
    ) async throws {
        guard let queue = queues.followWaits.first else { return }
        let headers = FollowedTask.headers(
            taskID: taskID,
            submittedAt: moment,
            attempts: end.attempts,
            mayBeDuplicate: end.mayBeDuplicate
        )
        try await publishCopy(of: job, to: queue.name, adding: headers, isLate: end.isLate)
    }

    /// Lets a task wait for its next look.
    package func wait(_ task: FollowedTask, _ delay: Duration, _ misses: FollowedTask.Misses) async throws {
        guard let queue = queues.followWaits.first(where: { $0.delay >= delay }) ?? queues.followWaits.last else {
            return
        }
        let headers = FollowedTask.headers(
            taskID: task.taskID,
            submittedAt: task.submittedAt,
            attempts: task.job.attempts,
            mayBeDuplicate: task.job.mayBeDuplicate,
            since: task.followedSince,
            misses: misses
        )
        try await publishCopy(of: task.job, to: queue.name, adding: headers)
    }

    /// Tells the requester where the images are.
    package func completed(_ task: FollowedTask, _ urls: [String]) async throws {
        let status = Reply.Status.completed(taskID: task.taskID, images: urls, submittedAt: task.submittedAt)
        try await deliver(reply(status, of: task), to: task.job, for: task.job.delivery)
    }

    /// Tells the requester that there will be no images, and keeps the job for a person.
    package func failed(_ task: FollowedTask, _ failure: JobFailure) async throws {
        // That the API made no images is certain, and whether it took the money is not worth a search.
        let queue = failure.code == .generationFailed ? queues.deadLetters : queues.unknown
        try await publishDeadLetter(
            failure,
            of: task.job,
            attempts: task.job.attempts,
            to: queue,
            taskID: task.taskID,
            submittedAt: task.submittedAt
        )
        try await deliver(
            reply(.failed(failure, taskID: task.taskID), of: task),
            to: task.job,
            for: task.job.delivery
        )
    }

    private func reply(_ status: Reply.Status, of task: FollowedTask) -> Reply {
        Reply(
            jobID: task.job.id,
            status: status,
            attempts: task.job.attempts,
            at: .now,
            mayBeDuplicate: task.job.mayBeDuplicate
        )
    }

    /// Whether the reply can reach its requester; nil if the broker cannot be asked.
    ///
    /// Only the requester of a direct reply-to can be gone.
    ///
    /// To be asked only when nothing but the submission is left to do: an earlier answer would be stale, and a job that was
    /// accepted before needs none.
    package func canReach(_ job: ReceivedJob) async throws -> Bool? {
        guard case .direct(let queue) = replies.route(job.delivery.properties.replyTo) else { return true }
        return try await publisher.exists(queue: queue)
    }

    private func publishDeadLetter(
        _ failure: JobFailure,
        of job: ReceivedJob,
        attempts: Int,
        to queue: ByteString? = nil,
        taskID: String? = nil,
        submittedAt: Timestamp? = nil
    ) async throws {
        var headers: FieldTable = [
            JobHeader.attempts: .int32(Int32(clamping: attempts)),
            JobHeader.errorCode: .text(failure.code.rawValue),
            JobHeader.errorMessage: .text(JobCopy.cut(failure.message)),
            JobHeader.errorCharged: .text(failure.charged.rawValue),
            JobHeader.failedAt: .text(Timestamp.now.description),
            JobHeader.worker: .text(identity.name),
            JobHeader.workerVersion: .text(identity.version),
        ]
        if !failure.violations.isEmpty {
            headers[JobHeader.errorViolations] = .text(ViolationsText.text(failure.violations))
        }
        if let status = failure.httpStatus {
            headers[JobHeader.httpStatus] = .int32(Int32(clamping: status))
        }
        if let answer = failure.apiAnswer { headers[JobHeader.apiAnswer] = .text(answer) }
        if let taskID { headers[JobHeader.taskID] = .text(JobCopy.cut(taskID)) }
        if let submittedAt { headers[JobHeader.submittedAt] = .text(submittedAt.description) }
        let queue = queue ?? (failure.charged == .maybe ? queues.unknown : queues.deadLetters)
        try await publishCopy(of: job, to: queue, adding: headers)
    }

    private func publishRetry(
        _ job: ReceivedJob,
        to queue: ByteString,
        _ end: JobEnd,
        adding more: FieldTable = [:]
    ) async throws {
        var headers: FieldTable = [JobHeader.attempts: .int32(Int32(clamping: end.attempts))]
        if end.mayBeDuplicate { headers[JobHeader.mayBeDuplicate] = .boolean(true) }
        headers.entries += more.entries
        try await publishCopy(of: job, to: queue, adding: headers)
    }

    private func publishCopy(
        of job: ReceivedJob,
        to queue: ByteString,
        adding headers: FieldTable,
        isLate: Bool = false
    ) async throws {
        let copies = JobCopy(frameMax: try await publisher.frameMax)
        let message = copies.message(of: job, to: queue, adding: headers)
        try await publishToOwnQueue(message, for: isLate ? nil : job.delivery)
    }

    /// A queue of ours that is gone is made again; the job is not acknowledged before its copy is safe.
    private func publishToOwnQueue(_ message: OutboundMessage, for delivery: Delivery?) async throws {
        var backoff = ReconnectBackoff()
        while true {
            switch try await publisher.publish(message, for: delivery) {
            case .confirmed: return
            case .returned:
                try await publisher.restoreTopology()
                try await Task.sleep(for: backoff.next())
            // Full: an operator's matter, and there is no other place for the message.
            case .refused: continue
            }
        }
    }

    private func reply(
        _ status: Reply.Status,
        to job: ReceivedJob,
        _ end: JobEnd,
        at moment: Timestamp = .now,
        follows: Bool = false
    ) async throws {
        var reply = Reply(
            jobID: job.id,
            status: status,
            attempts: end.attempts,
            at: moment,
            mayBeDuplicate: end.mayBeDuplicate,
            duplicateOfDelivery: end.isRepeated
        )
        reply.follows = follows
        try await deliver(reply, to: job, for: end.isLate ? nil : job.delivery)
    }

    /// With a delivery only as long as that is this worker's.
    private func deliver(_ reply: Reply, to job: ReceivedJob, for delivery: Delivery?) async throws {
        let properties = properties(of: reply, for: job)
        let body = reply.json.encoded()
        func message(to queue: ByteString, mandatory: Bool = true, undeliverableTo: ByteString? = nil)
            -> OutboundMessage
        {
            guard let undeliverableTo else {
                return OutboundMessage(routingKey: queue, properties: properties, body: body, mandatory: mandatory)
            }
            var marked = properties
            marked.headers?[JobHeader.undeliverableReplyTo] = .string(undeliverableTo)
            return OutboundMessage(routingKey: queue, properties: marked, body: body, mandatory: mandatory)
        }
        var undeliverable: ByteString?
        switch replies.route(job.delivery.properties.replyTo) {
        case .results:
            break
        case .refused(let queue):
            undeliverable = queue
        case .direct(let queue):
            // Some brokers return a direct reply although they delivered it: not mandatory.
            if try await publishDirect(message(to: queue, mandatory: false), for: delivery) {
                metrics.replied(.confirmed)
                return
            }
            metrics.replied(Self.notRouted)
            undeliverable = queue
        case .queue(let queue):
            let receipt = try await publisher.publish(message(to: queue), for: delivery)
            metrics.replied(receipt)
            if receipt == .confirmed { return }
            undeliverable = queue
        }
        try await publishToOwnQueue(message(to: queues.results, undeliverableTo: undeliverable), for: delivery)
        metrics.replied(.confirmed)
    }

    /// Publishes a reply to a requester who waits; false if they are gone, or may have gone before it reached them.
    ///
    /// The broker confirms a direct reply that it drops. Who was there right before a quick publish has it; after a slow
    /// one, which waited for a blocked broker or a new connection, only who is still there has it for certain.
    private func publishDirect(_ message: OutboundMessage, for delivery: Delivery?) async throws -> Bool {
        guard try await isThere(message.routingKey) else { return false }
        let asked = ContinuousClock.now
        _ = try await publisher.publish(message, for: delivery)
        guard ContinuousClock.now - asked > Self.quickPublish else { return true }
        return try await isThere(message.routingKey)
    }

    /// Whether a requester is still there; where the broker cannot be asked for longer than a reply should wait, it counts as
    /// gone, and the reply is kept.
    private func isThere(_ queue: ByteString) async throws -> Bool {
        let deadline = ContinuousClock.now + Self.longestQuestion
        while true {
            if let answer = try await publisher.exists(queue: queue) { return answer }
            guard .now < deadline else { return false }
            try await Task.sleep(for: .milliseconds(500))
        }
    }

    private func properties(of reply: Reply, for job: ReceivedJob) -> MessageProperties {
        var properties = MessageProperties()
        properties.contentType = Self.contentType
        properties.deliveryMode = 2
        properties.correlationID = job.correlationID
        properties.messageID = ByteString(identity.freshID())
        properties.timestamp = UInt64(clamping: reply.at.seconds)
        properties.type = Self.replyType
        properties.appID = Self.appID
        var headers: FieldTable = [JobHeader.jobID: .text(JobCopy.cut(reply.jobID))]
        if let trace = TraceContext(job.delivery.properties.headers) {
            headers[JobHeader.traceparent] = .text(trace.traceparent)
            headers[JobHeader.tracestate] = trace.tracestate.map { .text($0) }
        }
        properties.headers = headers
        return properties
    }
}
