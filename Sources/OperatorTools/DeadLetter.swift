import EditJob
import EditWorker
import FoundationEssentials
package import JSON
import Journal
package import RabbitMQ
package import SharedValues

/// A failed job in `Q.dlq` or `Q.unknown`, read for people.
package struct DeadLetter: Sendable {
    /// The message as it came.
    package let delivery: Delivery
    /// The job's identity, `-` if it has none.
    package let jobID: String
    /// Why it failed; the broker's own reason where no worker has put it here.
    package let code: String
    /// Why it failed, in words; empty if unknown.
    package let message: String
    /// When it failed; nil if unknown.
    package let failedAt: Timestamp?

    package init(_ delivery: Delivery) {
        let headers = delivery.properties.headers ?? [:]
        self.delivery = delivery
        jobID = headers[JobHeader.jobID]?.text ?? delivery.properties.messageID?.text ?? Self.noID
        // Without our headers the broker itself has put it here. Its last reason: the first is that of a retry queue, where the job
        // was in one.
        let reason = BrokerDeath(headers)?.reason ?? headers["x-first-death-reason"]?.text ?? "unknown"
        // A worker rejects only what is too large to be copied.
        let isTooLarge = headers[JobHeader.errorCode] == nil && reason == "rejected"
        code = headers[JobHeader.errorCode]?.text ?? (isTooLarge ? JobFailure.Code.messageTooLarge.rawValue : reason)
        message = headers[JobHeader.errorMessage]?.text ?? (isTooLarge ? Self.tooLarge(delivery) : "")
        failedAt = headers[JobHeader.failedAt]?.text.flatMap { Timestamp(rfc3339: $0) } ?? Self.deathTime(headers)
    }

    private static func tooLarge(_ delivery: Delivery) -> String {
        "The job has \(delivery.bodySize) bytes, more than a worker takes (worker.maxMessageBytes) and more than it copies: "
            + "the broker has put it here."
    }

    /// When the broker has put it here.
    private static func deathTime(_ headers: FieldTable) -> Timestamp? {
        guard let seconds = BrokerDeath(headers)?.time.flatMap({ Int64(exactly: $0) }) else { return nil }
        let (milliseconds, isTooLarge) = seconds.multipliedReportingOverflow(by: 1000)
        return isTooLarge ? nil : Timestamp(milliseconds: milliseconds)
    }

    /// Submissions that counted; nil if unknown.
    package var attempts: Int64? { delivery.properties.headers?[JobHeader.attempts]?.integer }

    /// Whether the job was paid for: `no` or `maybe`; nil if unknown.
    package var charged: String? {
        if let said = delivery.properties.headers?[JobHeader.errorCharged]?.text { return said }
        // The broker's limit: each of the workers that it was delivered to may have submitted it and died.
        return isMarked || code == JobFailure.Code.deliveryLimit.rawValue ? JobFailure.Charge.maybe.rawValue : nil
    }

    /// Whether the job may have been paid for, so that submitting it again needs consent.
    package var mayHaveBeenCharged: Bool { (charged ?? JobFailure.Charge.no.rawValue) != JobFailure.Charge.no.rawValue }

    /// Whether an earlier attempt may have been accepted.
    private var isMarked: Bool {
        let headers = delivery.properties.headers
        return headers?[JobHeader.mayBeDuplicate]?.flag == true
            || headers?[JobHeader.acceptDoubleCharge] == .boolean(true)
    }

    /// How often the job has been replayed; a larger number than 2^31 - 2 counts as that.
    private var replayCount: Int64 {
        min(max(0, delivery.properties.headers?[JobHeader.replayCount]?.integer ?? 0), Int64(Int32.max) - 1)
    }

    /// The time since it failed; nil if unknown.
    package func age(at now: Timestamp) -> Duration? {
        failedAt.map { .milliseconds(max(0, now.milliseconds - $0.milliseconds)) }
    }

    /// The API's name of the task that was made of it, if there is one.
    package var taskID: String? { delivery.properties.headers?[JobHeader.taskID]?.text }

    /// The task, if it was followed to an end without images that could be read.
    private var endedTaskID: String? {
        switch JobFailure.Code(rawValue: code) {
        case .generationFailed, .taskNotFound, .followTimeout, .resultUnreadable: taskID
        default: nil
        }
    }

    /// Where a requester waits for a direct reply; nil if the job names another queue, or none.
    package var requester: ByteString? {
        delivery.properties.replyTo.flatMap { ReplyAddress.isDirect($0) ? $0 : nil }
    }

    /// What is wrong with the job, for `invalid_job`.
    package var violations: [JSONValue] {
        let text = delivery.properties.headers?[JobHeader.errorViolations]?.text ?? ""
        guard case .array(let violations)? = try? JSONValue(parsing: text.utf8) else { return [] }
        return violations
    }

    /// The original job for its queue: the same body and `message_id`, without what its failure and its deaths have
    /// left, one replay more, and attempts from nothing.
    ///
    /// `acceptsDoubleCharge` allows the submission although the job may have been paid for. With a `correctedBody` it is
    /// another job, with an id of its own, whose replies still find the one that waits for them. With `keepsReplyTo` false
    /// the reply goes to where those go that name no queue.
    package func replayed(
        to queue: ByteString,
        acceptsDoubleCharge: Bool,
        correctedBody: [UInt8]? = nil,
        keepsReplyTo: Bool = true
    ) -> OutboundMessage {
        var properties = delivery.properties
        let headers = properties.headers ?? [:]
        var kept = headers.entries.filter { !JobCopy.isDropped($0.name) }
        kept.removeAll { Self.ofOneReplay.contains($0.name) }
        var table = FieldTable(entries: kept)
        table[JobHeader.replayCount] = .int32(Int32(replayCount) + 1)
        if let endedTaskID { table[JobHeader.replayOfTask] = .text(JobCopy.cut(endedTaskID)) }
        if acceptsDoubleCharge { table[JobHeader.acceptDoubleCharge] = .boolean(true) }
        properties.headers = table
        properties.deliveryMode = 2
        properties.expiration = nil
        properties.userID = nil
        if !keepsReplyTo { properties.replyTo = nil }
        if let correctedBody {
            properties.headers?[JobHeader.jobID] = nil
            properties.headers?[JobHeader.replayOfTask] = nil
            properties.headers?[JobHeader.editedFrom] = .text(JobCopy.cut(jobID))
            if properties.correlationID == nil { properties.correlationID = properties.messageID }
            properties.messageID = ByteString("edited-\(String(correctionID(correctedBody), radix: 36))")
        }
        return OutboundMessage(
            routingKey: queue,
            properties: properties,
            body: correctedBody ?? delivery.body,
            mandatory: true
        )
    }

    private static let ofOneReplay: Set<ByteString> = [
        JobHeader.attempts, JobHeader.acceptDoubleCharge, JobHeader.replayCount, JobHeader.replayOfTask,
    ]

    /// The job for the queue of tasks that are due, to be looked at once more and followed from `now` on, which costs
    /// nothing; nil if it has no task.
    package func lookedAtAgain(in queue: ByteString, at now: Timestamp) -> OutboundMessage? {
        guard let taskID else { return nil }
        let headers = delivery.properties.headers ?? [:]
        var properties = replayed(to: queue, acceptsDoubleCharge: false).properties
        var table = properties.headers ?? [:]
        table[JobHeader.replayOfTask] = nil
        let submittedAt = headers[JobHeader.submittedAt]?.text.flatMap { Timestamp(rfc3339: $0) }
        let task = FollowedTask.headers(
            taskID: taskID,
            submittedAt: submittedAt ?? failedAt ?? now,
            attempts: Int(clamping: attempts ?? 0),
            mayBeDuplicate: isMarked,
            since: now
        )
        for entry in task.entries { table[entry.name] = entry.value }
        properties.headers = table
        return OutboundMessage(routingKey: queue, properties: properties, body: delivery.body, mandatory: true)
    }

    /// The same for the same correction of the same letter, so that the journal knows the job if an interrupted replay is
    /// repeated; another for every letter that cannot be told from its twins.
    private func correctionID(_ body: [UInt8]) -> UInt128 {
        guard jobID != Self.noID else { return UInt128.random(in: .min ... .max) }
        let facts = [jobID, code, failedAt?.description ?? "", String(replayCount)].joined(separator: "\0")
        return BodyDigest(Array(facts.utf8) + [0] + body).value
    }

    /// What tells this letter from all others, also from a later one of the same job.
    package var mark: String {
        let facts = [jobID, code, failedAt?.description ?? "", String(replayCount)].joined(separator: "\0")
        return String(BodyDigest(Array(facts.utf8) + [0] + delivery.body).value, radix: 36)
    }

    /// The job as a line of NDJSON that `submit` takes: the job's own members, and `dead_letter` with what became of
    /// it.
    ///
    /// A body that is no JSON object stands as text in `dead_letter.body`, in base64 where it is no text.
    package var exported: JSONValue {
        var facts = [JSONMember("job_id", .string(jobID)), JSONMember("code", .string(code))]
        if !message.isEmpty { facts.append(JSONMember("message", .string(message))) }
        if let charged { facts.append(JSONMember(ExportedJob.Fact.charged, .string(charged))) }
        if let attempts { facts.append(JSONMember("attempts", .integer(attempts))) }
        if let failedAt { facts.append(JSONMember("failed_at", .string(failedAt.description))) }
        if !violations.isEmpty { facts.append(JSONMember("violations", .array(violations))) }
        if isMarked { facts.append(JSONMember(ExportedJob.Fact.mayBeDuplicate, .boolean(true))) }
        if replayCount > 0 { facts.append(JSONMember(ExportedJob.Fact.replayCount, .integer(replayCount))) }
        for (name, value) in [
            (ExportedJob.Fact.replyTo, delivery.properties.replyTo),
            (ExportedJob.Fact.correlationID, delivery.properties.correlationID),
        ] {
            if let text = value?.exactText { facts.append(JSONMember(name, .string(text))) }
        }
        var members: [JSONMember] = []
        if case .object(let job)? = try? JSONValue(parsing: delivery.body) {
            members = job.filter { $0.name != Self.exportMember }
        } else if let text = String(validating: delivery.body, as: UTF8.self) {
            facts.append(JSONMember("body", .string(text)))
        } else {
            facts.append(JSONMember("body_base64", .string(Data(delivery.body).base64EncodedString())))
        }
        return .object(members + [JSONMember(Self.exportMember, .object(facts))])
    }

    /// Stands for the id of a job that has none.
    package static let noID = "-"

    /// The member of an exported job that is not the job's own.
    package static let exportMember = "dead_letter"
}
