import EditJob
package import Journal
package import RabbitMQ
package import SharedValues

/// A delivery of the job queue, read for all but its body.
///
/// A class, because every step of a job holds it while the job waits.
package final class ReceivedJob: Sendable {
    /// The delivery as it came.
    package let delivery: Delivery
    /// The job's identity for people: `message_id`, percent-encoded where it is no UTF-8, or one that the worker made up.
    package let id: String
    /// The job's identity for the journal.
    ///
    /// Two ids with different bytes have different keys, which texts cannot
    /// promise: Swift takes those for equal that Unicode takes for equivalent.
    package let key: String
    /// Whether only this worker knows the id, so that the job cannot be recognised when it comes again.
    package let isAnonymous: Bool
    /// Counted submissions so far.
    package let attempts: Int
    /// Whether an earlier submission may have been accepted.
    package let mayBeDuplicate: Bool
    /// Whether an operator allows one more submission of a job that may have been charged.
    package let acceptsDoubleCharge: Bool
    /// When a worker first had the job.
    package let firstReceivedAt: Timestamp
    /// The exchange of the job's first delivery.
    package let originalExchange: ByteString
    /// The routing key of the job's first delivery.
    package let originalRoutingKey: ByteString
    /// The job's `expiration`, also if the broker has taken it off.
    package let originalExpiration: ByteString?
    /// What the journal's store knew of earlier deliveries when this one came.
    package let mark: DeliveryMark

    package typealias MarkDelivery = (_ wasDeliveredBefore: Bool, _ awaitsVerdict: Bool) -> DeliveryMark

    /// Of a journal that knows of no other worker.
    package static let unknown: @Sendable (Bool, Bool) -> DeliveryMark = { before, _ in
        DeliveryMark(isInDoubt: before)
    }

    /// Reads a delivery.
    ///
    /// `mark` is the journal's, `death` says how the broker took the job out of its queue; `freshID` makes up an id if the producer
    /// gave none.
    package init(
        _ delivery: Delivery,
        now: Timestamp = .now,
        mark: MarkDelivery = unknown,
        death: BrokerDeath? = nil,
        freshID: () -> String
    ) {
        let headers = delivery.properties.headers ?? [:]
        self.delivery = delivery
        if let id = delivery.properties.messageID, !id.isEmpty {
            key = id.journalKey
            self.id = id.exactText ?? key
            isAnonymous = false
        } else {
            id = Self.usableID(headers[JobHeader.jobID]?.text) ?? freshID()
            key = id
            isAnonymous = true
        }
        // Bounded, because a producer can write anything here, and a sum that overflows ends the process.
        attempts = Int(min(max(0, headers[JobHeader.attempts]?.integer ?? 0), 1_000_000))
        // Who allows a second charge says that there may have been a first, also if no journal knows of it.
        acceptsDoubleCharge = headers[JobHeader.acceptDoubleCharge] == .boolean(true)
        // In doubt for the mark, however a producer or a tool has written it.
        mayBeDuplicate = headers[JobHeader.mayBeDuplicate]?.flag == true || acceptsDoubleCharge
        firstReceivedAt =
            headers[JobHeader.firstReceivedAt]?.text.flatMap { Timestamp(rfc3339: $0) } ?? now
        var mark = mark(Self.wasDeliveredBefore(delivery), headers[JobHeader.awaitsVerdict] == .boolean(true))
        if headers[JobHeader.inDoubt] == .boolean(true) { mark.isInDoubt = true }
        self.mark = mark
        originalExpiration = delivery.properties.expiration ?? death?.expiration
        originalExchange = headers[JobHeader.originalExchange]?.shortBytes ?? death?.exchange ?? delivery.exchange
        originalRoutingKey =
            headers[JobHeader.originalRoutingKey]?.shortBytes ?? death?.routingKey ?? delivery.routingKey
    }

    /// How often an operator has replayed the job.
    package var replayCount: Int64 { max(0, delivery.properties.headers?[JobHeader.replayCount]?.integer ?? 0) }

    /// The time since the job's `timestamp`; nil without one, and if it lies in the future: in milliseconds, say.
    package var age: Duration? {
        // Anything may stand there, and arithmetic that overflows would end the process.
        guard let timestamp = delivery.properties.timestamp.flatMap({ Int64(exactly: $0) }) else { return nil }
        let age = Timestamp.now.seconds.subtractingReportingOverflow(timestamp)
        // The property counts whole seconds, and clocks differ a little.
        return age.overflow || age.partialValue < -60 ? nil : .seconds(max(0, age.partialValue))
    }

    /// How often the job came back to its queue, as far as the broker counts: a classic queue does not.
    ///
    /// Source: RabbitMQ's "Quorum Queues", "Poison Message Handling", `x-delivery-count`.
    package var countedDeliveries: Int64 { Self.countedDeliveries(delivery) }

    private static func countedDeliveries(_ delivery: Delivery) -> Int64 {
        max(0, delivery.properties.headers?[JobHeader.deliveryCount]?.integer ?? 0)
    }

    /// Whether a worker, this one or another, may have had the job before and left it without an end.
    package var wasDeliveredBefore: Bool { Self.wasDeliveredBefore(delivery) }

    private static func wasDeliveredBefore(_ delivery: Delivery) -> Bool {
        delivery.redelivered || countedDeliveries(delivery) > 0
            || delivery.properties.headers?[JobHeader.deliveredBefore] == .boolean(true)
    }

    /// Whether the producer wants the images; nil if the header says neither yes nor no.
    package var asksForImages: Bool? {
        guard let value = delivery.properties.headers?[JobHeader.follow] else { return false }
        return value.flag
    }

    /// Whether the job is a replay of one whose task is known, and has ended without images that could be read.
    package var isOfEndedTask: Bool { delivery.properties.headers?[JobHeader.replayOfTask] != nil }

    /// The id of the job that this one was made from by a correction.
    package var editedFrom: String? { Self.usableID(delivery.properties.headers?[JobHeader.editedFrom]?.text) }

    /// Whether the job was given back because another copy of it was being submitted: that one's verdict is its own.
    package var awaitsVerdict: Bool {
        delivery.properties.headers?[JobHeader.awaitsVerdict] == .boolean(true)
    }

    /// What the reply carries to be recognised by.
    ///
    /// The producer's own bytes: a text made of them may be longer than AMQP's 255, and then no reply could be sent.
    package var correlationID: ByteString {
        let own = delivery.properties.messageID.flatMap { $0.isEmpty ? nil : $0 }
        return delivery.properties.correlationID ?? own ?? ByteString(id)
    }

    /// An id of an earlier attempt, where it fits the properties of a message.
    private static func usableID(_ text: String?) -> String? {
        text.flatMap { (1...255).contains($0.utf8.count) ? $0 : nil }
    }
}

/// The names of the headers that the service reads and writes.
package enum JobHeader {
    package static let jobID: ByteString = "x-job-id"
    package static let attempts: ByteString = "x-attempts"
    package static let mayBeDuplicate: ByteString = "x-may-be-duplicate"
    package static let errorCode: ByteString = "x-error-code"
    package static let errorMessage: ByteString = "x-error-message"
    package static let errorCharged: ByteString = "x-error-charged"
    package static let errorViolations: ByteString = "x-error-violations"
    package static let httpStatus: ByteString = "x-http-status"
    package static let taskID: ByteString = "x-task-id"
    /// Asks for the images.
    package static let follow: ByteString = "x-follow"
    package static let submittedAt: ByteString = "x-submitted-at"
    /// Between workers only, as those below.
    package static let followMissing: ByteString = "x-follow-missing"
    package static let followUnreadable: ByteString = "x-follow-unreadable"
    package static let followNotBefore: ByteString = "x-follow-not-before"
    package static let followMissingSince: ByteString = "x-follow-missing-since"
    package static let followLast: ByteString = "x-follow-last"
    package static let followSince: ByteString = "x-follow-since"
    package static let failedAt: ByteString = "x-failed-at"
    package static let firstReceivedAt: ByteString = "x-first-received-at"
    package static let originalExchange: ByteString = "x-original-exchange"
    package static let originalRoutingKey: ByteString = "x-original-routing-key"
    package static let originalExpiration: ByteString = "x-original-expiration"
    package static let originalUserID: ByteString = "x-original-user-id"
    package static let originalCC: ByteString = "x-original-cc"
    package static let originalBCC: ByteString = "x-original-bcc"
    package static let worker: ByteString = "x-worker"
    package static let workerVersion: ByteString = "x-worker-version"
    package static let acceptDoubleCharge: ByteString = "x-accept-double-charge"
    package static let replayCount: ByteString = "x-replay-count"
    /// The task that the job had before it was replayed.
    package static let replayOfTask: ByteString = "x-replay-of-task"
    /// What the API said, where that is not understood.
    package static let apiAnswer: ByteString = "x-api-answer"
    /// The id of the job that this one was made from.
    package static let editedFrom: ByteString = "x-edited-from"
    package static let deliveryCount: ByteString = "x-delivery-count"
    package static let awaitsVerdict: ByteString = "x-awaits-verdict"
    /// Between workers only: the job came back to a worker that could not ask its journal.
    package static let deliveredBefore: ByteString = "x-delivered-before"
    package static let inDoubt: ByteString = "x-in-doubt"
    package static let headersDropped: ByteString = "x-headers-dropped"
    package static let undeliverableReplyTo: ByteString = "x-undeliverable-reply-to"
    package static let traceparent: ByteString = "traceparent"
    package static let tracestate: ByteString = "tracestate"
}

extension FieldValue {
    /// Whether the value says yes or no, as producers write it in several languages; nil if it says neither.
    package var flag: Bool? {
        switch self {
        case .boolean(let value): return value
        default: break
        }
        switch integer {
        case 1: return true
        case 0: return false
        default: break
        }
        switch text?.lowercased() {
        case "true", "1", "yes": return true
        case "false", "0", "no": return false
        default: return nil
        }
    }

    /// The bytes of a `string` or `bytes` value; nil of any other type, and of more than AMQP allows for a name.
    fileprivate var shortBytes: ByteString? {
        switch self {
        case .string(let value), .bytes(let value): value.bytes.count <= 255 ? value : nil
        default: nil
        }
    }
}

extension ByteString {
    /// By what a job of this `message_id` is known to the journal: the bytes as visible ASCII, all others and the percent sign as
    /// `%` and two hexadecimal digits (RFC 3986 §2.1).
    package var journalKey: String {
        let isPlain = bytes.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "%") }
        return isPlain ? text : PercentEncoding.encode(bytes) { $0 == UInt8(ascii: "%") }
    }
}
