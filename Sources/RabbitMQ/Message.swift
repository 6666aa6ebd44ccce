/// The properties that travel with a message, absent ones nil.
///
/// Source: `amqp_framing.h`, `amqp_basic_properties_t`.
package struct MessageProperties: Hashable, Sendable {
    /// MIME type of the body.
    package var contentType: ByteString?
    /// MIME encoding of the body.
    package var contentEncoding: ByteString?
    /// The headers; nil and empty are different on the wire.
    package var headers: FieldTable?
    /// 1 transient, 2 persistent.
    package var deliveryMode: UInt8?
    /// 0 to 255, used by classic queues with `x-max-priority`.
    package var priority: UInt8?
    /// The requester's mark, to be copied to the reply.
    package var correlationID: ByteString?
    /// The queue for the reply.
    package var replyTo: ByteString?
    /// Time to live in milliseconds, as decimal text.
    package var expiration: ByteString?
    package var messageID: ByteString?
    /// Seconds since 1970.
    package var timestamp: UInt64?
    /// The application's message type.
    package var type: ByteString?
    /// Validated by the broker against the connection's user.
    package var userID: ByteString?
    package var appID: ByteString?
    /// Deprecated, kept for faithful copies.
    package var clusterID: ByteString?

    package init() {}

    /// Bytes of a header frame beside the properties: frame header and end (8), class, weight, body size and flags (14).
    ///
    /// Source: AMQP 0-9-1 §4.2.3, §4.2.6.1.
    package static let frameOverhead = 22

    /// Bytes on the wire of all but the headers.
    package var encodedSizeWithoutHeaders: Int {
        var size = (deliveryMode == nil ? 0 : 1) + (priority == nil ? 0 : 1) + (timestamp == nil ? 0 : 8)
        forEachShortString { size += $0.bytes.count + 1 }
        return size
    }

    /// Whether the properties and headers go into one frame of that size, as they must.
    ///
    /// No short string, a header's name
    /// included, is longer than 255 bytes.
    package func fits(frameMax: Int) -> Bool {
        var longest = 0
        forEachShortString { longest = max(longest, $0.bytes.count) }
        return longest <= 255 && headers?.entries.allSatisfy { $0.name.bytes.count <= 255 } ?? true
            && Self.frameOverhead + encodedSizeWithoutHeaders + (headers?.encodedSize ?? 0) <= frameMax
    }

    /// Not as an array: every message is asked, and most have half of them.
    private func forEachShortString(_ body: (ByteString) -> Void) {
        if let contentType { body(contentType) }
        if let contentEncoding { body(contentEncoding) }
        if let correlationID { body(correlationID) }
        if let replyTo { body(replyTo) }
        if let expiration { body(expiration) }
        if let messageID { body(messageID) }
        if let type { body(type) }
        if let userID { body(userID) }
        if let appID { body(appID) }
        if let clusterID { body(clusterID) }
    }
}

/// A message on its way to the broker.
///
/// A class, because it goes through many hands: a copy would count a reference for each of its texts.
package final class OutboundMessage: Sendable {
    /// The exchange; empty is the default exchange, which routes by queue name.
    package let exchange: ByteString
    /// The routing key; on the default exchange the queue's name.
    package let routingKey: ByteString
    package let properties: MessageProperties
    /// The body, sent as it is.
    package let body: [UInt8]
    /// Whether the broker gives back what reaches no queue.
    package let mandatory: Bool

    /// A message, by default to a queue through the default exchange and mandatory.
    package init(
        exchange: ByteString = "",
        routingKey: ByteString,
        properties: MessageProperties = MessageProperties(),
        body: [UInt8],
        mandatory: Bool = true
    ) {
        self.exchange = exchange
        self.routingKey = routingKey
        self.properties = properties
        self.body = body
        self.mandatory = mandatory
    }
}

/// What identifies a delivery for its acknowledgement: a number that means something on one connection only.
///
/// Source: RabbitMQ's "Consumer Acknowledgements and Publisher Confirms", "Delivery Identifiers".
package struct DeliveryTag: Hashable, Sendable {
    /// The connection that delivered; another connection refuses the tag.
    package let epoch: UInt64
    /// The broker's number on that connection's channel.
    package let number: UInt64

    /// Names the delivery `number` of the connection `epoch`.
    package init(epoch: UInt64, number: UInt64) {
        self.epoch = epoch
        self.number = number
    }
}

/// A message as the broker delivered it.
///
/// A class, because it goes through many hands: a copy would count a reference for each of its texts.
package final class Delivery: Sendable {
    package let tag: DeliveryTag
    /// Whether the broker may have delivered it before.
    package let redelivered: Bool
    /// Where it was published.
    package let exchange: ByteString
    /// How it was routed.
    package let routingKey: ByteString
    package let properties: MessageProperties
    /// The body, byte for byte; empty if it was too large to be kept.
    package let body: [UInt8]
    /// The size of the body in bytes, as the content header announced it.
    package let bodySize: UInt64

    /// Who tells the broker what became of it; nil if there is no one to be told.
    package let acknowledger: (any Acknowledger)?

    /// Whether `body` is all of the body; see `AMQPConnectionOptions.largestBody`.
    package var isBodyKept: Bool { UInt64(body.count) == bodySize }

    /// A delivery, also for tests of what handles one; without `bodySize` the body is all of it.
    package init(
        tag: DeliveryTag,
        redelivered: Bool = false,
        exchange: ByteString = "",
        routingKey: ByteString,
        properties: MessageProperties,
        body: [UInt8],
        bodySize: UInt64? = nil,
        acknowledger: (any Acknowledger)? = nil
    ) {
        self.acknowledger = acknowledger
        self.tag = tag
        self.redelivered = redelivered
        self.exchange = exchange
        self.routingKey = routingKey
        self.properties = properties
        self.body = body
        self.bodySize = bodySize ?? UInt64(body.count)
    }
}

/// What became of a published message.
package enum PublishResult: Hashable, Sendable {
    /// The broker has taken responsibility for it.
    case confirmed
    /// No queue took it, and the broker gave it back (`mandatory`).
    case returned(replyCode: UInt16, replyText: String)
    /// The broker refused it (`basic.nack`): a full queue with `reject-publish`, or a fault inside the broker.
    case refused
}
