package import RabbitMQ
import SharedValues

/// Makes copies of a job for a retry queue, `Q.dlq` or `Q.unknown`: the body byte for byte, the properties and headers
/// kept but for those that would break or misroute the copy.
///
/// Source: RabbitMQ's "Validated User-ID", "Sender-selected Distribution", "Time-To-Live" (per-message), "Dead Letter
/// Exchanges" (the death headers).
package struct JobCopy: Sendable {
    /// A text value of ours is cut to this, on a character boundary.
    package static let longestText = 2048

    /// The largest header frame that the broker takes, in bytes.
    private let frameMax: Int

    /// Makes copies that fit a connection's frame.
    package init(frameMax: Int) {
        self.frameMax = frameMax
    }

    /// The copy of a job for a queue.
    ///
    /// `ours` replace headers of the same name.
    package func message(of received: ReceivedJob, to queue: ByteString, adding ours: FieldTable) -> OutboundMessage {
        let delivery = received.delivery
        var properties = delivery.properties
        properties.deliveryMode = 2
        properties.expiration = nil
        properties.userID = nil
        var kept = (delivery.properties.headers ?? [:]).entries.filter { !Self.isDropped($0.name) }
        var added = ours
        added[JobHeader.jobID] = .text(Self.cut(received.id))
        added[JobHeader.firstReceivedAt] = .text(received.firstReceivedAt.description)
        added[JobHeader.originalExchange] = .string(received.originalExchange)
        added[JobHeader.originalRoutingKey] = .string(received.originalRoutingKey)
        keepAside(delivery.properties, in: &added)
        added[JobHeader.originalExpiration] = received.originalExpiration.map { .string($0) }
        kept.removeAll { entry in added.entries.contains { $0.name == entry.name } }
        drop(from: &kept, toFit: &added, beside: properties)
        properties.headers = FieldTable(entries: kept + added.entries)
        return OutboundMessage(routingKey: queue, properties: properties, body: delivery.body)
    }

    /// Cuts a text to at most `longest` bytes, on a character boundary.
    package static func cut(_ text: String, to longest: Int = longestText) -> String {
        guard text.utf8.count > longest else { return text }
        var end = text.utf8.index(text.startIndex, offsetBy: longest)
        while end.samePosition(in: text.unicodeScalars) == nil { end = text.utf8.index(before: end) }
        return String(text[..<end])
    }

    /// Whether a header must not be on a job that is submitted again.
    ///
    /// Those that route (`CC`, `BCC`), those that only the broker's own next death may write, and what an earlier
    /// attempt's end has left: it would be read as this one's.
    package static func isDropped(_ name: ByteString) -> Bool {
        let text = name.text
        return ["CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"].contains(text)
            || resultHeaders.contains(name)
            || text.hasPrefix("x-first-death-") || text.hasPrefix("x-last-death-")
    }

    private static let resultHeaders: Set<ByteString> = [
        JobHeader.errorCode, JobHeader.errorMessage, JobHeader.errorCharged, JobHeader.errorViolations,
        JobHeader.httpStatus, JobHeader.taskID, JobHeader.failedAt, JobHeader.worker, JobHeader.workerVersion,
        JobHeader.undeliverableReplyTo, JobHeader.awaitsVerdict, JobHeader.deliveredBefore, JobHeader.inDoubt,
        JobHeader.submittedAt,
        JobHeader.followMissing, JobHeader.followUnreadable, JobHeader.followNotBefore, JobHeader.followMissingSince,
        JobHeader.followLast, JobHeader.followSince, JobHeader.apiAnswer,
    ]

    /// What is taken out of its place stays readable in another; the first copy's, through every retry.
    private func keepAside(_ properties: MessageProperties, in added: inout FieldTable) {
        if let userID = properties.userID {
            added[JobHeader.originalUserID] = .string(userID)
        }
        if let copies = properties.headers?["CC"] {
            added[JobHeader.originalCC] = copies
        }
        if let copies = properties.headers?["BCC"] {
            added[JobHeader.originalBCC] = copies
        }
    }

    /// Leaves out the job's own headers, largest first, until the rest fits: a frame that is too large would end the
    /// connection, and the job would come again and end the next.
    private func drop(
        from kept: inout [FieldTable.Entry],
        toFit added: inout FieldTable,
        beside properties: MessageProperties
    ) {
        let room = frameMax - Self.overhead - properties.encodedSizeWithoutHeaders
        // An earlier copy may have left some out already.
        let before = kept.first { $0.name == JobHeader.headersDropped }?.value.integer ?? 0
        var size = added.encodedSize + kept.reduce(0) { $0 + $1.encodedSize }
        guard size > room else { return }
        added[JobHeader.headersDropped] = .int32(0)
        size = added.encodedSize + kept.reduce(0) { $0 + $1.encodedSize }
        let droppable = added.entries.indices
            .filter {
                [JobHeader.originalCC, JobHeader.originalBCC].contains(added.entries[$0].name)
            }
            .map { added.entries[$0] }
        var dropped: Int64 = 0
        kept.removeAll { $0.name == JobHeader.headersDropped }
        for entry in (kept + droppable).sorted(by: { $0.encodedSize > $1.encodedSize }) where size > room {
            kept.removeAll { $0.name == entry.name }
            if droppable.contains(entry) { added[entry.name] = nil }
            size = added.encodedSize + kept.reduce(0) { $0 + $1.encodedSize }
            dropped += 1
        }
        added[JobHeader.headersDropped] = .int32(Int32(clamping: dropped + min(max(0, before), Int64(Int32.max))))
    }

    /// Some room to spare beside the header frame's own fields.
    private static let overhead = MessageProperties.frameOverhead + 42
}
