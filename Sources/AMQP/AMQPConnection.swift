import NIOConcurrencyHelpers

/// A connection to a broker with one channel: consumes and acknowledges, or publishes with confirms.
///
/// Runs on a thread of its own, on which librabbitmq is called and nothing else; see `SocketThread`. A connection that
/// broke stays broken: whoever needs another opens another, and the tags of the old one mean nothing there.
package actor AMQPConnection {
    /// Something that happened to the connection, for whoever watches it.
    package enum Event: Sendable {
        /// The broker has stopped reading what publishers send (`connection.blocked`).
        case blocked(reason: String)
        /// The broker reads again.
        case unblocked
        /// The broker ended a consumer: its queue was deleted, or the queue's leader is gone.
        case consumerCancelled
        /// The connection is over; the last event.
        case closed(AMQPError)
    }

    /// A registered consumer.
    package struct Subscription: Sendable {
        /// The consumer's name at the broker.
        package let tag: ByteString
        /// The deliveries, in the broker's order; ends with the consumer or the connection.
        package let deliveries: AsyncStream<Delivery>
    }

    private struct PendingPublish {
        let message: OutboundMessage
        let deadline: ContinuousClock.Instant
        let resume: @Sendable (Result<PublishResult, AMQPError>) -> Void
        var returned: PublishResult?
    }

    private enum Command {
        case acknowledge(UInt64)
        case reject(UInt64, requeue: Bool)
        case publish(OutboundMessage, @Sendable (Result<PublishResult, AMQPError>) -> Void)

        var isPublish: Bool {
            if case .publish = self { return true }
            return false
        }
    }

    private struct Mailbox {
        var commands: [Command] = []
        var isClosed = false
    }

    /// Which connection of this process it is; part of every tag that it gives out.
    package nonisolated let epoch: UInt64
    /// What happens to the connection, from one consumer's view.
    package nonisolated let events: AsyncStream<Event>

    private nonisolated let thread: SocketThread
    private nonisolated let mailbox = NIOLockedValueBox(Mailbox())
    private let watcher: AsyncStream<Event>.Continuation
    private let options: AMQPConnectionOptions

    private var socket: BrokerSocket?
    private var acknowledgements = AcknowledgementLedger()
    private var confirms = ConfirmLedger<PendingPublish>()
    /// The streams by their subscription, and which subscription each consumer feeds.
    private var streams: [ByteString: AsyncStream<Delivery>.Continuation] = [:]
    private var consumers: [ByteString: ByteString] = [:]
    private var consumersEver = 0
    private var isBlocked = false
    /// Publishes that wait for the broker to read again, in their order.
    private var held: [Command] = []
    /// When the broker last began to read again: no confirm is late before its time from then on.
    private var unblockedAt = ContinuousClock.now

    package nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe thread.asUnownedSerialExecutor() }

    private static let epochs = NIOLockedValueBox<UInt64>(0)

    private init(options: AMQPConnectionOptions) throws {
        self.options = options
        thread = try SocketThread(name: options.name)
        (events, watcher) = AsyncStream.makeStream()
        epoch = Self.epochs.withLockedValue { last in
            last += 1
            return last
        }
    }

    deinit {
        watcher.finish()
    }

    /// Connects and logs in; the wait is bounded by the options.
    ///
    /// Throws `AMQPError`.
    package static func open(_ url: AMQPURL, options: AMQPConnectionOptions) async throws -> AMQPConnection {
        let connection = try AMQPConnection(options: options)
        try await connection.connect(url)
        return connection
    }

    private func connect(_ url: AMQPURL) throws {
        socket = try BrokerSocket(url, options: options, epoch: epoch)
        thread.onTurn { [weak self] in
            guard let self else { return .forWork }
            return self.assumeIsolated { $0.turn() }
        }
    }

    /// The largest frame that the broker takes, in bytes; a message's properties and headers must fit one.
    package var frameMax: Int { socket?.negotiatedFrameMax ?? 0 }

    /// The broker's version as it says itself, such as `3.10.8`; empty where it says none.
    package var brokerVersion: String { socket?.brokerVersion ?? "" }

    /// The first number of the broker's version, 0 where it says none.
    package var brokerMajorVersion: Int {
        brokerVersion.split(separator: ".").first.flatMap { Int($0) } ?? 0
    }

    // MARK: - Topology

    /// Declares a queue; an existing one with the same arguments is left as it is.
    ///
    /// Throws `AMQPError`.
    package func declare(_ queue: QueueDeclaration) throws -> QueueStatus {
        try onSocket { socket throws(AMQPError) in try socket.declare(queue, passive: false) }
    }

    /// Asks for a queue without changing anything; throws `AMQPError` with `notFound` where there is none.
    package func inspect(queue: ByteString) throws -> QueueStatus {
        try onSocket { socket throws(AMQPError) in
            try socket.declare(QueueDeclaration(name: queue), passive: true)
        }
    }

    /// Deletes a queue with what is in it.
    ///
    /// Throws `AMQPError`.
    package func delete(queue: ByteString) throws {
        try onSocket { socket throws(AMQPError) in try socket.delete(queue: queue) }
    }

    // MARK: - Consuming

    /// Registers a consumer with at most `prefetch` deliveries unacknowledged.
    ///
    /// Throws `AMQPError`.
    ///
    /// Without `acknowledges` the broker takes each delivery as done as it is sent (for direct reply-to).
    package func consume(
        from queue: ByteString,
        prefetch: UInt16,
        acknowledges: Bool = true
    ) throws -> Subscription {
        let tag = freshTag()
        let (stream, continuation) = AsyncStream<Delivery>.makeStream()
        streams[tag] = continuation
        try register(tag, feeding: tag, queue, prefetch, acknowledges)
        return Subscription(tag: tag, deliveries: stream)
    }

    /// Lets a subscription have so many deliveries more, by one more consumer: a consumer's own prefetch is fixed.
    ///
    /// Source: RabbitMQ's "Consumer Prefetch". Does nothing where the subscription has ended. Throws `AMQPError`.
    package func widen(_ subscription: Subscription, from queue: ByteString, by prefetch: UInt16) throws {
        guard streams[subscription.tag] != nil else { return }
        try register(freshTag(), feeding: subscription.tag, queue, prefetch, true)
    }

    private func freshTag() -> ByteString {
        consumersEver += 1
        return ByteString("seedream-\(consumersEver)")
    }

    private func register(
        _ tag: ByteString,
        feeding subscription: ByteString,
        _ queue: ByteString,
        _ prefetch: UInt16,
        _ acknowledges: Bool
    ) throws(AMQPError) {
        // Before asking: the broker may send deliveries before it says that it will.
        consumers[tag] = subscription
        do {
            try onSocket { socket throws(AMQPError) in
                try socket.consume(from: queue, tag: tag, prefetch: prefetch, acknowledges: acknowledges)
            }
        } catch {
            removeConsumer(tag)
            throw error
        }
    }

    /// Ends a subscription with all its consumers.
    ///
    /// What was delivered before stays in its stream, unacknowledged, and the stream then ends. Throws `AMQPError`.
    package func cancel(_ subscription: Subscription) throws {
        for (tag, fed) in consumers where fed == subscription.tag {
            try onSocket { socket throws(AMQPError) in try socket.cancelConsumer(tag) }
            // While waiting for the answer librabbitmq put deliveries aside; unread, they would be nobody's.
            try receive()
            removeConsumer(tag)
        }
    }

    /// Forgets a consumer; its subscription ends with its last.
    private func removeConsumer(_ tag: ByteString) {
        guard let subscription = consumers.removeValue(forKey: tag), !consumers.values.contains(subscription) else {
            return
        }
        streams.removeValue(forKey: subscription)?.finish()
    }

    /// Acknowledges a delivery, soon and together with others.
    ///
    /// From any thread, without waiting.
    ///
    /// False where the tag is of another connection or this one has ended: the broker delivers it again, and an
    /// acknowledgement would hit somebody else's delivery.
    @discardableResult
    package nonisolated func acknowledge(_ tag: DeliveryTag) -> Bool {
        tag.epoch == epoch && post(.acknowledge(tag.number))
    }

    /// Gives a delivery back to its queue, or without `requeue` to the queue's dead letters.
    ///
    /// As `acknowledge`.
    @discardableResult
    package nonisolated func reject(_ tag: DeliveryTag, requeue: Bool) -> Bool {
        tag.epoch == epoch && post(.reject(tag.number, requeue: requeue))
    }

    // MARK: - Publishing

    /// Puts the channel into confirm mode: `publish` needs it.
    ///
    /// Throws `AMQPError`.
    package func selectConfirms() throws {
        try onSocket { socket throws(AMQPError) in try socket.selectConfirms() }
    }

    /// Publishes a message and waits for what the broker says of it, at most for the options' `confirmTimeout`.
    ///
    /// Throws `AMQPError`; the message may or may not have arrived then.
    package nonisolated func publish(_ message: OutboundMessage) async throws -> PublishResult {
        try await withCheckedThrowingContinuation { continuation in
            let resume: @Sendable (Result<PublishResult, AMQPError>) -> Void = { continuation.resume(with: $0) }
            if !post(.publish(message, resume)) {
                resume(.failure(Self.closedError))
            }
        }
    }

    // MARK: - Closing

    /// Sends what is waiting, says goodbye to the broker, and ends the streams.
    package func close() {
        guard socket != nil else { return }
        do {
            try runCommands()
            try flushAcknowledgements()
            socket?.close()
        } catch {
            // The connection is gone already, which is what was wanted.
        }
        end(Self.closedError)
    }

    private static let closedError = AMQPError(.closed, "the connection was closed")

    private nonisolated func post(_ command: Command) -> Bool {
        let (isAccepted, isFirst) = mailbox.withLockedValue { box in
            guard !box.isClosed else { return (false, false) }
            box.commands.append(command)
            return (true, box.commands.count == 1)
        }
        // Whoever posted the first has woken the thread for all.
        if isFirst { thread.wake() }
        return isAccepted
    }

    // MARK: - The thread's turn

    /// Reads all that is there, does all that was asked, and tells how long to wait.
    private func turn() -> SocketThread.Wait {
        guard socket != nil else { return .forWork }
        do {
            try receive()
            try runCommands()
            try flushAcknowledgements()
            try checkDeadlines()
        } catch {
            end(error)
            return .forWork
        }
        guard let socket else { return .forWork }
        return SocketThread.Wait(descriptor: socket.descriptor, milliseconds: longestWait(socket))
    }

    /// Half a heartbeat, because librabbitmq sends ours only as it reads; shorter where a confirm is due.
    private func longestWait(_ socket: BrokerSocket) -> Int32? {
        var wait: Duration? = socket.negotiatedHeartbeat > 0 ? .milliseconds(socket.negotiatedHeartbeat * 500) : nil
        if let due = nextDeadline, !isBlocked {
            let left = max(.zero, ContinuousClock.now.duration(to: due))
            wait = min(wait ?? left, left)
        }
        // Rounded up: a wait that ends before the deadline would be taken again and again.
        return wait.map { Int32(clamping: Int64(($0 / .milliseconds(1)).rounded(.up))) }
    }

    private func receive() throws(AMQPError) {
        while let event = try socket?.nextEvent() {
            try handle(event)
        }
        socket?.releaseFrames()
    }

    private func handle(_ event: BrokerEvent) throws(AMQPError) {
        switch event {
        case .delivery(let consumer, let delivery):
            guard acknowledgements.opened(delivery.tag.number) else {
                throw AMQPError(.protocolViolation, "the broker skipped a delivery tag")
            }
            consumers[consumer].flatMap { streams[$0] }?.yield(delivery)
        case .returned(let message, let replyCode, let replyText):
            markReturned(message, .returned(replyCode: replyCode, replyText: replyText))
        case .confirmed(let number, let multiple):
            for publish in confirms.settle(number, multiple: multiple) {
                publish.resume(.success(publish.returned ?? .confirmed))
            }
        case .refused(let number, let multiple):
            for publish in confirms.settle(number, multiple: multiple) {
                publish.resume(.success(.refused))
            }
        case .consumerCancelled(let consumer):
            removeConsumer(consumer)
            watcher.yield(.consumerCancelled)
        case .blocked(let reason):
            isBlocked = true
            watcher.yield(.blocked(reason: reason))
        case .unblocked:
            isBlocked = false
            unblockedAt = .now
            watcher.yield(.unblocked)
        case .channelClosed(let error), .connectionClosed(let error):
            throw error
        }
    }

    /// A return has no number.
    ///
    /// It comes before its message's confirm and in the order of publishing, so it belongs to
    /// the oldest unanswered message that looks the same.
    private func markReturned(_ message: OutboundMessage, _ result: PublishResult) {
        _ = confirms.updateFirst { pending in
            pending.returned == nil && pending.message.mandatory
                && pending.message.routingKey == message.routingKey
                && pending.message.exchange == message.exchange
                && pending.message.properties.messageID == message.properties.messageID
                && pending.message.body == message.body
        } _: { pending in
            pending.returned = result
        }
    }

    private func runCommands() throws(AMQPError) {
        var commands = mailbox.withLockedValue { box in
            let commands = box.commands
            box.commands.removeAll(keepingCapacity: true)
            return commands
        }
        if isBlocked {
            // Writing to a broker that does not read would park the thread, and with it the heartbeats.
            held += commands.filter(\.isPublish)
            commands.removeAll(where: \.isPublish)
        } else if !held.isEmpty {
            commands = held + commands
            held = []
        }
        for (index, command) in commands.enumerated() {
            switch command {
            case .acknowledge(let number):
                _ = acknowledgements.settle(number)
            case .reject(let number, let requeue):
                guard acknowledgements.remove(number) else { continue }
                try socket?.reject(number, requeue: requeue)
            case .publish(let message, let resume):
                confirms.append(
                    PendingPublish(message: message, deadline: .now + options.confirmTimeout, resume: resume)
                )
                do {
                    try socket?.publish(message)
                } catch {
                    // The rest of the turn's commands must not wait for an answer that nobody will give.
                    Self.fail(commands[(index + 1)...], with: error)
                    throw error
                }
            }
        }
    }

    private func flushAcknowledgements() throws(AMQPError) {
        for acknowledgement in acknowledgements.flush() {
            try socket?.acknowledge(acknowledgement)
        }
    }

    private func checkDeadlines() throws(AMQPError) {
        guard !isBlocked, let due = nextDeadline, due <= .now else { return }
        throw AMQPError(.timedOut, "the broker did not confirm a message within \(options.confirmTimeout)")
    }

    /// When the oldest message without an answer is given up; the time in which the broker blocks does not count.
    private var nextDeadline: ContinuousClock.Instant? {
        confirms.oldest.map { max($0.deadline, unblockedAt + options.confirmTimeout) }
    }

    private func onSocket<Result>(
        _ body: (BrokerSocket) throws(AMQPError) -> Result
    ) throws(AMQPError) -> Result {
        guard let socket else { throw Self.closedError }
        // The answer may have been read together with deliveries, which `poll` no longer sees.
        defer { thread.wake() }
        do {
            return try body(socket)
        } catch {
            if !socket.isUsable { end(error) }
            throw error
        }
    }

    /// Ends the connection: whoever waits on it hears of it, once.
    private func end(_ error: AMQPError) {
        socket = nil
        let commands = mailbox.withLockedValue { box in
            box.isClosed = true
            defer { box.commands = [] }
            return box.commands
        }
        Self.fail((held + commands)[...], with: error)
        held = []
        for publish in confirms.settleAll() {
            publish.resume(.failure(error))
        }
        for stream in streams.values { stream.finish() }
        streams = [:]
        consumers = [:]
        watcher.yield(.closed(error))
        watcher.finish()
    }

    private static func fail(_ commands: ArraySlice<Command>, with error: AMQPError) {
        for case .publish(_, let resume) in commands { resume(.failure(error)) }
    }
}
