import CRabbitMQ

/// Something that the broker sent by itself, whole: a method with its content, copied out of librabbitmq's memory.
enum BrokerEvent {
    case delivery(consumer: ByteString, Delivery)
    case returned(OutboundMessage, replyCode: UInt16, replyText: String)
    case confirmed(number: UInt64, multiple: Bool)
    case refused(number: UInt64, multiple: Bool)
    case consumerCancelled(consumer: ByteString)
    case blocked(reason: String)
    case unblocked
    case channelClosed(AMQPError)
    case connectionClosed(AMQPError)
}

/// Puts the frames of one channel together: a method, then for some a header and as many body frames as it announces.
///
/// Frames of different methods never interleave within a channel. Source: AMQP 0-9-1 §4.2.6.
struct FrameAssembler {
    private enum Method {
        case deliver(consumer: ByteString, number: UInt64, redelivered: Bool, exchange: ByteString, key: ByteString)
        case returned(code: UInt16, text: String, exchange: ByteString, key: ByteString)
    }

    /// A class, so that what has come is handed on instead of copied at each frame.
    private final class Content {
        let method: Method
        var properties: MessageProperties?
        var size: UInt64 = 0
        var remaining: UInt64 = 0
        var isKept = true
        var body: [UInt8] = []

        init(method: Method) {
            self.method = method
        }
    }

    /// The largest room set aside on the word of a header alone if nothing limits bodies; a larger one grows as it comes.
    private static let largestReserve: UInt64 = 1 << 20

    let epoch: UInt64
    /// The connection, which has this and outlives it.
    private unowned let acknowledger: any Acknowledger
    private let largestBody: UInt64?
    private var content: Content?

    init(epoch: UInt64, options: AMQPConnectionOptions, acknowledger: any Acknowledger) {
        self.epoch = epoch
        self.acknowledger = acknowledger
        largestBody = options.largestBody.map { UInt64(clamping: $0) }
    }

    /// Takes a frame; an event where it completes one.
    mutating func take(_ frame: amqp_frame_t) throws(AMQPError) -> BrokerEvent? {
        switch unsafe Int32(frame.frame_type) {
        case AMQP_FRAME_METHOD:
            guard content == nil else { throw Self.violation("a method before the content of the last was complete") }
            return unsafe takeMethod(frame.payload.method)
        case AMQP_FRAME_HEADER:
            guard let open = content, open.properties == nil else { throw Self.violation("a header without a method") }
            guard let decoded = unsafe frame.payload.properties.decoded else { throw Self.violation("an empty header") }
            open.properties = unsafe MessageProperties(
                copying: decoded.assumingMemoryBound(to: amqp_basic_properties_t.self).pointee
            )
            unsafe open.size = frame.payload.properties.body_size
            open.remaining = open.size
            open.isKept = mayKeep(open)
            if open.isKept {
                // What is limited is set aside in one piece: growing by doubling would take up to three times as much.
                let most = largestBody == nil ? Self.largestReserve : open.size
                open.body.reserveCapacity(Int(clamping: min(open.size, most)))
            }
            return complete(open)
        case AMQP_FRAME_BODY:
            let fragment = unsafe frame.payload.body_fragment
            guard let open = content, open.properties != nil, unsafe UInt64(fragment.len) <= open.remaining else {
                throw Self.violation("a body frame that no header announced")
            }
            if open.isKept {
                unsafe open.body.append(contentsOf: UnsafeRawBufferPointer(start: fragment.bytes, count: fragment.len))
            }
            unsafe open.remaining -= UInt64(fragment.len)
            return complete(open)
        default:
            return nil
        }
    }

    /// Whether the body may be kept: what comes back of our own may be.
    private func mayKeep(_ open: Content) -> Bool {
        guard let largestBody, case .deliver = open.method else { return true }
        return open.size <= largestBody
    }

    private mutating func complete(_ open: Content) -> BrokerEvent? {
        guard open.remaining == 0, let properties = open.properties.take() else { return nil }
        content = nil
        switch open.method {
        case .deliver(let consumer, let number, let redelivered, let exchange, let key):
            let delivery = Delivery(
                tag: DeliveryTag(epoch: epoch, number: number),
                redelivered: redelivered,
                exchange: exchange,
                routingKey: key,
                properties: properties,
                body: open.body,
                bodySize: open.size,
                acknowledger: acknowledger
            )
            return .delivery(consumer: consumer, delivery)
        case .returned(let code, let text, let exchange, let key):
            let message = OutboundMessage(
                exchange: exchange,
                routingKey: key,
                properties: properties,
                body: open.body
            )
            return .returned(message, replyCode: code, replyText: text)
        }
    }

    private mutating func takeMethod(_ method: amqp_method_t) -> BrokerEvent? {
        guard let decoded = unsafe method.decoded else { return nil }
        switch unsafe method.id {
        case amqp_method_number_t(AMQP_BASIC_DELIVER_METHOD):
            let deliver = unsafe decoded.assumingMemoryBound(to: amqp_basic_deliver_t.self).pointee
            content = unsafe Content(
                method: .deliver(
                    consumer: ByteString(copying: deliver.consumer_tag),
                    number: deliver.delivery_tag,
                    redelivered: deliver.redelivered != 0,
                    exchange: ByteString(copying: deliver.exchange),
                    key: ByteString(copying: deliver.routing_key)
                )
            )
            return nil
        case amqp_method_number_t(AMQP_BASIC_RETURN_METHOD):
            let returned = unsafe decoded.assumingMemoryBound(to: amqp_basic_return_t.self).pointee
            content = unsafe Content(
                method: .returned(
                    code: returned.reply_code,
                    text: ByteString(copying: returned.reply_text).text,
                    exchange: ByteString(copying: returned.exchange),
                    key: ByteString(copying: returned.routing_key)
                )
            )
            return nil
        case amqp_method_number_t(AMQP_BASIC_ACK_METHOD):
            let ack = unsafe decoded.assumingMemoryBound(to: amqp_basic_ack_t.self).pointee
            return .confirmed(number: ack.delivery_tag, multiple: ack.multiple != 0)
        case amqp_method_number_t(AMQP_BASIC_NACK_METHOD):
            let nack = unsafe decoded.assumingMemoryBound(to: amqp_basic_nack_t.self).pointee
            return .refused(number: nack.delivery_tag, multiple: nack.multiple != 0)
        case amqp_method_number_t(AMQP_BASIC_CANCEL_METHOD):
            let cancel = unsafe decoded.assumingMemoryBound(to: amqp_basic_cancel_t.self).pointee
            return unsafe .consumerCancelled(consumer: ByteString(copying: cancel.consumer_tag))
        case amqp_method_number_t(AMQP_CONNECTION_BLOCKED_METHOD):
            let blocked = unsafe decoded.assumingMemoryBound(to: amqp_connection_blocked_t.self).pointee
            return unsafe .blocked(reason: ByteString(copying: blocked.reason).text)
        case amqp_method_number_t(AMQP_CONNECTION_UNBLOCKED_METHOD):
            return .unblocked
        case amqp_method_number_t(AMQP_CHANNEL_CLOSE_METHOD):
            return unsafe .channelClosed(AMQPError(closing: method, while: "using the channel"))
        case amqp_method_number_t(AMQP_CONNECTION_CLOSE_METHOD):
            return unsafe .connectionClosed(AMQPError(closing: method, while: "using the connection"))
        default:
            return nil
        }
    }

    private static func violation(_ what: String) -> AMQPError {
        AMQPError(.protocolViolation, "the broker sent \(what)")
    }
}
