import CRabbitMQ

// One factory per way in which librabbitmq reports a failure.

extension AMQPError {
    /// A negative status of a librabbitmq call.
    ///
    /// Source: `amqp.h`, `amqp_status_enum`.
    init(status: Int32, while doing: String) {
        let text = unsafe String(cString: amqp_error_string2(status))
        let code: Code =
            switch status {
            case AMQP_STATUS_HOSTNAME_RESOLUTION_FAILED.rawValue: .nameNotResolved
            case AMQP_STATUS_TIMEOUT.rawValue: .timedOut
            case AMQP_STATUS_HEARTBEAT_TIMEOUT.rawValue: .heartbeatLost
            case AMQP_STATUS_CONNECTION_CLOSED.rawValue, AMQP_STATUS_SOCKET_ERROR.rawValue,
                AMQP_STATUS_SOCKET_CLOSED.rawValue, AMQP_STATUS_TCP_ERROR.rawValue,
                AMQP_STATUS_SSL_ERROR.rawValue:
                .connectionLost
            case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED.rawValue, AMQP_STATUS_SSL_PEER_VERIFY_FAILED.rawValue,
                AMQP_STATUS_SSL_CONNECTION_FAILED.rawValue, AMQP_STATUS_SSL_SET_ENGINE_FAILED.rawValue:
                .tls
            case AMQP_STATUS_TABLE_TOO_BIG.rawValue: .tooLarge
            default: .protocolViolation
            }
        self.init(code, "failed while \(doing): \(text)")
    }

    /// The broker's `channel.close` or `connection.close`.
    ///
    /// Source: AMQP 0-9-1 §1.2 "Reply codes"; RabbitMQ's "Consumers", "Delivery Acknowledgement Timeout".
    init(closing method: amqp_method_t, while doing: String) {
        guard let decoded = unsafe method.decoded else {
            self.init(.closedByBroker, "the broker closed without a reason while \(doing)")
            return
        }
        let replyCode: UInt16
        let text: String
        if unsafe method.id == amqp_method_number_t(AMQP_CHANNEL_CLOSE_METHOD) {
            let close = unsafe decoded.assumingMemoryBound(to: amqp_channel_close_t.self).pointee
            unsafe (replyCode, text) = (close.reply_code, ByteString(copying: close.reply_text).text)
        } else {
            let close = unsafe decoded.assumingMemoryBound(to: amqp_connection_close_t.self).pointee
            unsafe (replyCode, text) = (close.reply_code, ByteString(copying: close.reply_text).text)
        }
        let code = Code(replyCode: replyCode, text: text)
        let remedy = Self.remedy(for: code, text)
        self.init(code, "the broker refused \(doing): \(text)", remedy: remedy, replyCode: replyCode)
    }

    /// What to do where the broker's words say more than its code.
    private static func remedy(for code: Code, _ text: String) -> String? {
        guard code == .limitReached else { return nil }
        if text.contains("queue limit") {
            return
                "raise the virtual host's limit of queues (rabbitmqctl set_vhost_limits, max-queues), or delete queues "
                + "that nobody needs"
        }
        if text.contains("channel") {
            return
                "raise the limit of channels (channel_max and channel_max_per_node in rabbitmq.conf, max-channels of the "
                + "user's limits)"
        }
        return "raise the limit of connections (rabbitmqctl set_vhost_limits or set_user_limits, max-connections; "
            + "connection_max in rabbitmq.conf), or close others: a worker has up to four"
    }

    /// A call that waits for the broker's answer; nil if it succeeded.
    static func failure(of reply: amqp_rpc_reply_t, while doing: String) -> AMQPError? {
        switch unsafe reply.reply_type {
        case AMQP_RESPONSE_NORMAL: nil
        case AMQP_RESPONSE_SERVER_EXCEPTION: unsafe AMQPError(closing: reply.reply, while: doing)
        case AMQP_RESPONSE_LIBRARY_EXCEPTION: unsafe AMQPError(status: reply.library_error, while: doing)
        default: AMQPError(.connectionLost, "the broker closed the connection while \(doing)")
        }
    }
}

extension AMQPError.Code {
    fileprivate init(replyCode: UInt16, text: String) {
        // Refused for a limit, whichever code the version has for it (rabbit_vhost_limit, rabbit_channel, rabbit_reader).
        let words = text.lowercased()
        let isLimit =
            words.contains("limit") && (words.contains("is reached") || words.contains("exceeded"))
            || words.contains("reached the maximum") || words.contains("too many channels")
            || words.contains("connection limit") || words.contains("number of channels")
        switch replyCode {
        case _ where isLimit && [403, 406, 506, 530].contains(replyCode): self = .limitReached
        case 403 where text.contains("Login was refused"): self = .authenticationRefused
        case 403, 530: self = .accessRefused
        case 404: self = .notFound
        case 405: self = .resourceLocked
        case 406 where text.contains("delivery acknowledgement on channel"): self = .consumerTimeout
        case 406: self = .preconditionFailed
        case 501, 502, 503, 504, 505: self = .protocolViolation
        default: self = .closedByBroker
        }
    }
}
