import CRabbitMQ
import Glibc

// What waits for the broker's answer: on the throwaway channel if the broker may refuse it.

extension BrokerSocket {
    /// The connection for a question, which must not overtake what is written.
    private var flushed: amqp_connection_state_t {
        get throws(AMQPError) {
            try flush()
            return unsafe state
        }
    }

    /// Puts the working channel into confirm mode.
    func selectConfirms() throws(AMQPError) {
        _ = unsafe amqp_confirm_select(try flushed, Self.workingChannel)
        try checkReply("switching to publisher confirms")
    }

    /// Registers a consumer that has at most `prefetch` deliveries unacknowledged; gives its tag.
    func consume(
        from queue: ByteString,
        tag: ByteString,
        prefetch: UInt16,
        acknowledges: Bool,
        arguments: FieldTable
    ) throws(AMQPError) {
        defer { arena.recycle() }
        _ = unsafe amqp_basic_qos(try flushed, Self.workingChannel, 0, prefetch, 0)
        try checkReply("setting the prefetch")
        _ = unsafe amqp_basic_consume(
            state,
            Self.workingChannel,
            arena.bytes(queue),
            arena.bytes(tag),
            0,
            acknowledges ? 0 : 1,
            0,
            arena.table(arguments)
        )
        try checkReply("consuming from \(queue)")
    }

    /// Ends a consumer; deliveries on their way still arrive before this returns.
    func cancelConsumer(_ tag: ByteString) throws(AMQPError) {
        defer { arena.recycle() }
        _ = unsafe amqp_basic_cancel(try flushed, Self.workingChannel, arena.bytes(tag))
        try checkReply("cancelling the consumer")
    }

    /// Declares a queue on a channel of its own, or with `passive` only asks for it.
    func declare(_ queue: QueueDeclaration, passive: Bool) throws(AMQPError) -> QueueStatus {
        defer { arena.recycle() }
        return try withThrowawayChannel { channel throws(AMQPError) in
            let answer = unsafe amqp_queue_declare(
                state,
                channel,
                arena.bytes(queue.name),
                passive ? 1 : 0,
                queue.durable ? 1 : 0,
                queue.exclusive ? 1 : 0,
                queue.autoDelete ? 1 : 0,
                arena.table(queue.arguments)
            )
            try checkReply(passive ? "looking for queue \(queue.name)" : "declaring queue \(queue.name)")
            guard let answer = unsafe answer?.pointee else {
                throw AMQPError(.protocolViolation, "the broker's answer about queue \(queue.name) is empty")
            }
            return unsafe QueueStatus(
                name: ByteString(copying: answer.queue),
                messageCount: answer.message_count,
                consumerCount: answer.consumer_count
            )
        }
    }

    /// Declares a durable exchange on a channel of its own, or with `passive` only asks for it.
    func declare(_ exchange: ExchangeDeclaration, passive: Bool) throws(AMQPError) {
        defer { arena.recycle() }
        try withThrowawayChannel { channel throws(AMQPError) in
            _ = unsafe amqp_exchange_declare(
                state,
                channel,
                arena.bytes(exchange.name),
                arena.bytes(ByteString(exchange.kind)),
                passive ? 1 : 0,
                1,
                0,
                0,
                amqp_table_t()
            )
            try checkReply("\(passive ? "looking for" : "declaring") exchange \(exchange.name)")
        }
    }

    /// Deletes an exchange that nothing is bound to.
    func deleteUnused(exchange: ByteString) throws(AMQPError) {
        defer { arena.recycle() }
        try withThrowawayChannel { channel throws(AMQPError) in
            _ = unsafe amqp_exchange_delete(state, channel, arena.bytes(exchange), 1)
            try checkReply("deleting exchange \(exchange)")
        }
    }

    /// Binds a queue to an exchange, on a channel of its own.
    func bind(_ binding: Binding) throws(AMQPError) {
        defer { arena.recycle() }
        try withThrowawayChannel { channel throws(AMQPError) in
            _ = unsafe amqp_queue_bind(
                state,
                channel,
                arena.bytes(binding.queue),
                arena.bytes(binding.exchange),
                arena.bytes(binding.routingKey),
                amqp_table_t()
            )
            try checkReply("binding queue \(binding.queue) to exchange \(binding.exchange)")
        }
    }

    /// The name that the broker knows the user by: it says so in its refusal of a message under another name.
    ///
    /// Source: RabbitMQ's "Validated User-ID".
    func userName() throws(AMQPError) -> String {
        defer { arena.recycle() }
        do throws(AMQPError) {
            try withThrowawayChannel { channel throws(AMQPError) in
                var properties = MessageProperties()
                properties.userID = "?"
                var native = unsafe arena.properties(properties)
                let empty = unsafe amqp_bytes_t()
                let status = unsafe amqp_basic_publish(state, channel, empty, empty, 0, 0, &native, empty)
                try check(status, "asking for the user's name")
                // The refusal comes as the answer to this.
                _ = unsafe amqp_queue_declare(state, channel, arena.bytes("?"), 1, 0, 0, 0, amqp_table_t())
                try checkReply("asking for the user's name")
            }
        } catch  where isUsable && error.code == .preconditionFailed {
            if let name = error.message.firstMatch(of: /authenticated user was '(.*)'/) { return String(name.1) }
        } catch  where isUsable && error.code == .notFound {
            // The queue's refusal: the message was taken.
        }
        throw AMQPError(
            .accessRefused,
            "the broker does not say under which name it knows this user",
            remedy: "take the tag impersonator away from the user, or shorten the certificate's subject"
        )
    }

    /// Deletes a queue with what is in it.
    func delete(queue: ByteString) throws(AMQPError) {
        defer { arena.recycle() }
        try withThrowawayChannel { channel throws(AMQPError) in
            _ = unsafe amqp_queue_delete(state, channel, arena.bytes(queue), 0, 0)
            try checkReply("deleting queue \(queue)")
        }
    }

    /// Reads and drops what comes until a moment, or until the connection ends.
    func read(until end: ContinuousClock.Instant) {
        while true {
            let left = ContinuousClock.now.duration(to: end)
            guard left > .zero else { return }
            do {
                while try nextEvent() != nil { releaseFrames() }
            } catch {
                return
            }
            var descriptors = [pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)]
            _ = unsafe poll(&descriptors, 1, Int32(clamping: left.components.attoseconds / 1_000_000_000_000_000 + 1))
        }
    }

    /// Says goodbye and waits for the broker's; errors no longer matter.
    ///
    /// First to the working channel, which answers when it has worked off all that was sent. At the end of a connection a busy
    /// broker waits three seconds for a channel, and then drops what it has left (`rabbit_reader`, `CHANNEL_TERMINATION_TIMEOUT`).
    func close(patience: Duration) {
        let end = ContinuousClock.now + patience
        var farewell = unsafe amqp_channel_close_t(
            reply_code: UInt16(AMQP_REPLY_SUCCESS),
            reply_text: amqp_bytes_t(),
            class_id: 0,
            method_id: 0
        )
        let channel = Self.workingChannel
        let left = unsafe amqp_send_method(state, channel, AMQP_CHANNEL_CLOSE_METHOD, &farewell)
        guard left == AMQP_STATUS_OK.rawValue else { return }
        awaitAnswer(AMQP_CHANNEL_CLOSE_OK_METHOD, until: end)
        var goodbye = unsafe amqp_connection_close_t(
            reply_code: UInt16(AMQP_REPLY_SUCCESS),
            reply_text: amqp_bytes_t(),
            class_id: 0,
            method_id: 0
        )
        let gone = unsafe amqp_send_method(state, 0, AMQP_CONNECTION_CLOSE_METHOD, &goodbye)
        if gone == AMQP_STATUS_OK.rawValue { awaitAnswer(AMQP_CONNECTION_CLOSE_OK_METHOD, until: end) }
    }

    /// Reads until that answer comes, or the connection ends.
    ///
    /// What still comes is dropped frame by frame: `amqp_connection_close` keeps all of it until the answer, and a
    /// consumer with a large prefetch may be sent 65 535 deliveries.
    private func awaitAnswer(_ method: amqp_method_number_t, until end: ContinuousClock.Instant) {
        while .now < end {
            releaseFrames()
            var frame = unsafe amqp_frame_t()
            var left = timeval(max(.zero, ContinuousClock.now.duration(to: end)))
            let status = unsafe amqp_simple_wait_frame_noblock(state, &frame, &left)
            guard status == AMQP_STATUS_OK.rawValue else { return }
            if unsafe Int32(frame.frame_type) == AMQP_FRAME_METHOD,
                unsafe frame.payload.method.id == method
            {
                return
            }
        }
    }

    private func withThrowawayChannel<Result>(
        _ body: (amqp_channel_t) throws(AMQPError) -> Result
    ) throws(AMQPError) -> Result {
        _ = unsafe amqp_channel_open(try flushed, Self.throwawayChannel)
        try checkReply("opening a channel")
        isThrowawayOpen = true
        defer { isThrowawayOpen = false }
        let result = try body(Self.throwawayChannel)
        // Its result, and not `amqp_get_rpc_reply`, which tells of the call before.
        let reply = unsafe amqp_channel_close(state, Self.throwawayChannel, Int32(AMQP_REPLY_SUCCESS))
        try unsafe check(reply, "closing a channel")
        return result
    }
}
