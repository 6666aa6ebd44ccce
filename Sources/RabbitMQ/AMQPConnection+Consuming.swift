// The consumers of a connection: registering, ending, and the acknowledgements.

/// What a connection knows of its consumers.
struct ConsumingState {
    /// A consumer as the broker knows it.
    struct Registration {
        /// The consumer whose deliveries it brings: one whose prefetch was raised has several at the broker.
        let consumer: ByteString
        let queue: ByteString
        /// Deliveries that may be unacknowledged; 0 for any number.
        let prefetch: UInt16
        /// Whether its deliveries are to be acknowledged.
        let acknowledges: Bool
        /// Whether it reads a stream, to which nothing comes back.
        let isOfStream: Bool
        /// The channel's first delivery tag that may be its own.
        let firstTag: UInt64
    }

    var acknowledgements = AcknowledgementLedger()
    /// By the tag at the broker.
    var registrations: [ByteString: Registration] = [:]
    var queues: [ByteString: DeliveryQueue] = [:]
    /// Consumers that the broker has ended.
    var cancelledByBroker: Set<ByteString> = []
    /// Of the consumer that limits what is read; the others of its connection wait with it.
    var readAhead: ReadAhead?
    /// When the last acknowledgement or rejection was sent.
    var lastSettledAt: ContinuousClock.Instant?
    private var tags = 0

    mutating func freshTag() -> ByteString {
        tags += 1
        return ByteString("consumer-\(tags)")
    }
}

extension AMQPConnection {
    /// Registers a consumer with at most `prefetch` deliveries unacknowledged.
    ///
    /// Without `acknowledges` the broker takes each delivery as done as it is sent (for direct reply-to). With `readAhead`
    /// the connection stops reading while this many deliveries wait to be taken, until half are; it should have no
    /// heartbeat then, since librabbitmq sends its own only as it reads. `arguments` are the broker's, such as
    /// `x-stream-offset` for a stream. Source: RabbitMQ's "Consumers", "Streams".
    package func consume(
        from queue: ByteString,
        prefetch: UInt16,
        acknowledges: Bool = true,
        readAhead limit: Int? = nil,
        arguments: FieldTable = [:]
    ) throws(AMQPError) -> Consumer {
        let tag = consuming.freshTag()
        let deliveries = DeliveryQueue()
        consuming.queues[tag] = deliveries
        let readAhead = limit.map { ReadAhead(limit: $0, thread: thread) }
        consuming.readAhead = readAhead ?? consuming.readAhead
        try register(
            tag,
            .init(
                consumer: tag,
                queue: queue,
                prefetch: prefetch,
                acknowledges: acknowledges,
                isOfStream: arguments["x-stream-offset"] != nil,
                firstTag: consuming.acknowledgements.next
            ),
            arguments
        )
        return Consumer(self, id: tag, queue: queue, deliveries: .init(queue: deliveries, readAhead: readAhead))
    }

    /// See `Consumer.raisePrefetch`.
    func raisePrefetch(of consumer: ByteString, by prefetch: UInt16) throws(AMQPError) {
        guard let first = consuming.registrations[consumer] else { return }
        let more = ConsumingState.Registration(
            consumer: consumer,
            queue: first.queue,
            prefetch: prefetch,
            acknowledges: first.acknowledges,
            isOfStream: first.isOfStream,
            firstTag: consuming.acknowledgements.next
        )
        try register(consuming.freshTag(), more, [:])
    }

    private func register(
        _ tag: ByteString,
        _ registration: ConsumingState.Registration,
        _ arguments: FieldTable
    ) throws(AMQPError) {
        // Before asking: the broker may send deliveries before it says that it will.
        consuming.registrations[tag] = registration
        do {
            try onSocket { socket throws(AMQPError) in
                try socket.consume(
                    from: registration.queue,
                    tag: tag,
                    prefetch: registration.prefetch,
                    acknowledges: registration.acknowledges,
                    arguments: arguments
                )
            }
        } catch {
            forgetConsumer(tag)
            throw error
        }
    }

    /// See `Consumer.closeIfCancelled`.
    func closeIfCancelled(_ consumer: ByteString, of queue: ByteString) {
        // That of a queue which was deleted has nothing more to come.
        guard consuming.cancelledByBroker.remove(consumer) != nil, (try? inspect(queue: queue)) != nil else { return }
        let reason = AMQPError(
            .consumerTimeout,
            "the broker ended the consumer of \(queue), probably because a delivery was held for longer than its "
                + "consumer_timeout"
        )
        close(reason)
    }

    /// See `Consumer.cancel`.
    func cancelConsumer(_ consumer: ByteString) throws(AMQPError) {
        let ending = consuming.registrations.filter { $0.value.consumer == consumer }
        try awaitDeliveries(of: ending.values.map { $0 })
        for tag in ending.keys {
            try onSocket { socket throws(AMQPError) in try socket.cancelConsumer(tag) }
            try receiveAside()
            forgetConsumer(tag)
        }
    }

    /// Waits until the broker has nothing more on its way to consumers that are about to end.
    ///
    /// What a quorum queue has sent to a channel, and the channel to no consumer because it is gone, comes back as
    /// delivered before (`rabbit_fifo_client`), although no worker has seen it. Nothing is on its way once the consumers
    /// have as much as they may, since no acknowledgement is sent meanwhile, or once the queue is empty. Ends after a
    /// second without a delivery: a job that comes back so is in doubt, no more.
    private func awaitDeliveries(of ending: [ConsumingState.Registration]) throws(AMQPError) {
        guard let queue = ending.first?.queue, let first = ending.map(\.firstTag).min(),
            ending.allSatisfy({ $0.acknowledges && !$0.isOfStream && $0.prefetch > 0 })
        else { return }
        let most = ending.reduce(0) { $0 + Int($1.prefetch) }
        var seen = -1
        var deadline = ContinuousClock.now
        while true {
            let count = consuming.acknowledgements.openCount(from: first)
            if count > seen { (seen, deadline) = (count, .now + .seconds(1)) }
            guard count < most, .now < deadline else { return }
            let isEmpty: Bool
            do {
                isEmpty = try inspect(queue: queue).messageCount == 0
            } catch {
                // A user who may not look: a round trip less to wait for.
                guard socket != nil else { throw error }
                isEmpty = true
            }
            try receiveAside()
            if isEmpty { return }
        }
    }

    /// Reads what librabbitmq put aside while it waited for an answer; unread, it would be lost.
    private func receiveAside() throws(AMQPError) {
        do {
            try receive()
        } catch {
            end(error)
            throw error
        }
    }

    /// Forgets a consumer at the broker; the deliveries end with the last of those that bring them.
    func forgetConsumer(_ tag: ByteString) {
        guard let consumer = consuming.registrations.removeValue(forKey: tag)?.consumer,
            !consuming.registrations.values.contains(where: { $0.consumer == consumer })
        else { return }
        consuming.queues.removeValue(forKey: consumer)?.finish()
    }

    /// See `Consumer.flush`.
    func flushAcknowledgements(askingFor queue: ByteString) throws(AMQPError) {
        _ = try onSocket { socket throws(AMQPError) in
            try runCommands()
            try flushAcknowledgements()
            return try socket.declare(QueueDeclaration(name: queue), passive: true)
        }
    }

    func deliver(_ delivery: Delivery, to tag: ByteString) throws(AMQPError) {
        let registration = consuming.registrations[tag]
        let number = delivery.tag.number
        if registration?.acknowledges == false {
            // Nothing is owed; and RabbitMQ gives all direct replies of a channel the same tag.
            if consuming.acknowledgements.opened(number) { _ = consuming.acknowledgements.remove(number) }
        } else if !consuming.acknowledgements.opened(number) {
            throw AMQPError(.protocolViolation, "the broker skipped a delivery tag")
        }
        consuming.readAhead?.read()
        registration.flatMap { consuming.queues[$0.consumer] }?.put(delivery)
    }

    func settle(_ number: UInt64) {
        _ = consuming.acknowledgements.settle(number)
    }

    func sendRejection(_ number: UInt64, requeue: Bool) throws(AMQPError) {
        guard consuming.acknowledgements.remove(number) else { return }
        try socket?.reject(number, requeue: requeue)
        consuming.lastSettledAt = .now
    }

    func flushAcknowledgements() throws(AMQPError) {
        let frames = consuming.acknowledgements.flush()
        guard !frames.isEmpty else { return }
        for acknowledgement in frames { try socket?.acknowledge(acknowledgement) }
        consuming.lastSettledAt = .now
    }

    func endConsuming() {
        for queue in consuming.queues.values { queue.finish() }
        consuming.queues = [:]
        consuming.registrations = [:]
    }

    /// Waits until the broker has surely passed the last acknowledgements and rejections on.
    ///
    /// Its channel holds back those beyond 32 commands that a quorum queue has not written yet, and forgets them when it
    /// ends (`rabbit_fifo_client`, `unsent_commands`): up to a thousand came back in a test. One write later all of them go
    /// out together, and no answer tells when that is.
    func linger() {
        guard let lastSettledAt = consuming.lastSettledAt else { return }
        socket?.read(until: lastSettledAt + Self.lingering)
    }

    /// Many times as long as a quorum queue takes to write.
    private static let lingering = Duration.milliseconds(250)
}
