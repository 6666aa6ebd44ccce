import NIOConcurrencyHelpers
import ThreadExecutor

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

    /// A message on its way, and who waits for what the broker says of it.
    ///
    /// A class, because it goes through several hands: a copy of the message counts a reference for each of its texts.
    final class Publishing: Sendable {
        let message: OutboundMessage
        let resume: @Sendable (Result<PublishResult, AMQPError>) -> Void

        init(_ message: OutboundMessage, _ resume: @escaping @Sendable (Result<PublishResult, AMQPError>) -> Void) {
            self.message = message
            self.resume = resume
        }
    }

    struct PendingPublish {
        let publishing: Publishing
        let deadline: ContinuousClock.Instant
        var returned: PublishResult?
    }

    /// A consumer as it was registered.
    struct Consumer {
        /// The subscription whose deliveries it brings.
        let subscription: ByteString
        let queue: ByteString
        /// Deliveries that may be unacknowledged; 0 for any number.
        let prefetch: UInt16
        /// Whether its deliveries are to be acknowledged.
        let acknowledges: Bool
        /// The channel's first delivery tag that may be its own.
        let firstTag: UInt64
    }

    enum Command {
        case acknowledge(UInt64)
        case reject(UInt64, requeue: Bool)
        case publish(Publishing)

        var isPublish: Bool {
            if case .publish = self { return true }
            return false
        }
    }

    struct Mailbox {
        var commands: [Command] = []
        var isClosed = false
    }

    /// Which connection of this process it is; part of every tag that it gives out.
    package nonisolated let epoch: UInt64
    /// What happens to the connection, from one consumer's view.
    package nonisolated let events: AsyncStream<Event>

    nonisolated let thread: SocketThread
    nonisolated let mailbox = NIOLockedValueBox(Mailbox())
    let watcher: AsyncStream<Event>.Continuation
    nonisolated let options: AMQPConnectionOptions

    var socket: BrokerSocket?
    var acknowledgements = AcknowledgementLedger()
    var confirms = ConfirmLedger<PendingPublish>()
    /// The streams by their subscription, and the consumers by their tags.
    var streams: [ByteString: AsyncStream<Delivery>.Continuation] = [:]
    var consumers: [ByteString: Consumer] = [:]
    var consumersEver = 0
    var isBlocked = false
    /// Publishes that wait for the broker to read again, in their order.
    var held: [Command] = []
    /// Deliveries that nobody has taken yet, where the options limit them.
    nonisolated let untaken = NIOLockedValueBox(0)
    /// When the last acknowledgement or rejection was sent.
    var lastSettledAt: ContinuousClock.Instant?
    /// When the broker last began to read again: no confirm is late before its time from then on.
    var unblockedAt = ContinuousClock.now

    package nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe thread.asUnownedSerialExecutor() }

    static let epochs = NIOLockedValueBox<UInt64>(0)

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

    func connect(_ url: AMQPURL) throws {
        let socket = try BrokerSocket(url, options: options, epoch: epoch, acknowledger: self)
        self.socket = socket
        frameMax = socket.negotiatedFrameMax
        thread.onTurn { [weak self] in
            guard let self else { return .forWork }
            return self.assumeIsolated { $0.turn() }
        }
    }

    /// The largest frame that the broker takes, in bytes; a message's properties and headers must fit one.
    ///
    /// Stays as it was when the connection ends.
    package private(set) var frameMax = 0

    /// The broker's version as it says itself, such as `3.10.8`; empty if it says none.
    package var brokerVersion: String { socket?.brokerVersion ?? "" }

    /// The first number of the broker's version, 0 if it says none.
    package var brokerMajorVersion: Int {
        brokerVersion.split(separator: ".").first.flatMap { Int($0) } ?? 0
    }

    /// Whether the connection has not ended.
    ///
    /// From any thread.
    package nonisolated var isOpen: Bool { mailbox.withLockedValue { !$0.isClosed } }

    // MARK: - Topology

    /// Declares a queue; an existing one with the same arguments is left as it is.
    ///
    /// Throws `AMQPError`.
    package func declare(_ queue: QueueDeclaration) throws -> QueueStatus {
        try onSocket { socket throws(AMQPError) in try socket.declare(queue, passive: false) }
    }

    /// Asks for a queue without changing anything; throws `AMQPError` with `notFound` where there is none.
    package func inspect(queue: ByteString) throws -> QueueStatus {
        try inspectNow(queue)
    }

    private func inspectNow(_ queue: ByteString) throws(AMQPError) -> QueueStatus {
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

    func freshTag() -> ByteString {
        consumersEver += 1
        return ByteString("consumer-\(consumersEver)")
    }

    func register(
        _ tag: ByteString,
        feeding subscription: ByteString,
        _ queue: ByteString,
        _ prefetch: UInt16,
        _ acknowledges: Bool
    ) throws(AMQPError) {
        // Before asking: the broker may send deliveries before it says that it will.
        consumers[tag] = Consumer(
            subscription: subscription,
            queue: queue,
            prefetch: prefetch,
            acknowledges: acknowledges,
            firstTag: acknowledgements.next
        )
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
        let ending = consumers.filter { $0.value.subscription == subscription.tag }
        try awaitDeliveries(of: ending.values.map { $0 })
        for tag in ending.keys {
            try onSocket { socket throws(AMQPError) in try socket.cancelConsumer(tag) }
            try receiveAside()
            removeConsumer(tag)
        }
    }

    /// Waits until the broker has nothing more on its way to consumers that are about to end.
    ///
    /// What a quorum queue has sent to a channel, and the channel to nobody because its consumer is gone, comes back as
    /// delivered before (`rabbit_fifo_client`), although no worker has seen it. Nothing is on its way once the consumers
    /// have as much as they may, since no acknowledgement is sent meanwhile, or once the queue is empty. Bounded: a job
    /// that comes back so is in doubt, no more.
    private func awaitDeliveries(of ending: [Consumer]) throws(AMQPError) {
        guard let queue = ending.first?.queue, let first = ending.map(\.firstTag).min(),
            ending.allSatisfy({ $0.acknowledges && $0.prefetch > 0 })
        else { return }
        let most = ending.reduce(0) { $0 + Int($1.prefetch) }
        let deadline = ContinuousClock.now + .milliseconds(250)
        while acknowledgements.openCount(from: first) < most, .now < deadline {
            let isEmpty: Bool
            do {
                isEmpty = try inspectNow(queue).messageCount == 0
            } catch {
                // A user who may not look: a round trip less to wait for.
                guard socket != nil else { throw error }
                isEmpty = true
            }
            try receiveAside()
            if isEmpty { return }
        }
    }

    /// Reads what librabbitmq put aside while it waited for an answer; unread, it would be nobody's.
    private func receiveAside() throws(AMQPError) {
        do {
            try receive()
        } catch {
            end(error)
            throw error
        }
    }

    /// Forgets a consumer; its subscription ends with its last.
    func removeConsumer(_ tag: ByteString) {
        guard let subscription = consumers.removeValue(forKey: tag)?.subscription,
            !consumers.values.contains(where: { $0.subscription == subscription })
        else { return }
        streams.removeValue(forKey: subscription)?.finish()
    }

    /// Notes that a delivery was taken from its stream, for `AMQPConnectionOptions.mostUntaken`.
    ///
    /// From any thread.
    package nonisolated func take() {
        let left = untaken.withLockedValue { count in
            count -= 1
            return count
        }
        if left == (options.mostUntaken ?? 0) / 2 { thread.wake() }
    }

    /// Acknowledges a delivery, soon and together with others.
    ///
    /// From any thread, without waiting.
    ///
    /// False if the tag is of another connection or this one has ended: the broker delivers it again, and an
    /// acknowledgement would hit somebody else's delivery.
    @discardableResult
    package nonisolated func acknowledge(_ tag: DeliveryTag) -> Bool {
        tag.epoch == epoch && post(.acknowledge(tag.number))
    }

    /// Waits until the broker has everything that was acknowledged or given back before.
    ///
    /// By a round trip on the same channel, a question about a queue that is there. Throws `AMQPError`.
    package func synchronize(with queue: ByteString) throws {
        _ = try onSocket { socket throws(AMQPError) in
            try runCommands()
            try flushAcknowledgements()
            return try socket.declare(QueueDeclaration(name: queue), passive: true)
        }
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
            if !post(.publish(Publishing(message, resume))) {
                resume(.failure(Self.closedError))
            }
        }
    }

    /// As `publish`, without waiting: messages go out in the order of the calls.
    ///
    /// The task's value is what the broker says; it throws `AMQPError`.
    package nonisolated func startPublishing(_ message: OutboundMessage) -> Task<PublishResult, any Error> {
        let (answers, answer) = AsyncStream<Result<PublishResult, AMQPError>>.makeStream()
        let resume: @Sendable (Result<PublishResult, AMQPError>) -> Void = { result in
            answer.yield(result)
            answer.finish()
        }
        if !post(.publish(Publishing(message, resume))) { resume(.failure(Self.closedError)) }
        return Task {
            for await result in answers { return try result.get() }
            throw Self.closedError
        }
    }

    // MARK: - Closing

    /// Sends what is waiting, says goodbye to the broker, and ends the streams.
    package func close() {
        guard socket != nil else { return }
        do {
            try runCommands()
            try flushAcknowledgements()
            // A broker that blocks us does not read, and would let us wait for nothing.
            if !isBlocked {
                linger()
                socket?.close()
            }
        } catch {
            // The connection is gone already, which is what was wanted.
        }
        end(Self.closedError)
    }

    /// Waits until the broker has surely passed the last acknowledgements and rejections on.
    ///
    /// Its channel holds back those beyond 32 commands that a quorum queue has not written yet, and forgets them when it
    /// ends (`rabbit_fifo_client`, `unsent_commands`): up to a thousand came back in a test. One write later all of them go
    /// out together, and no answer tells when that is.
    private func linger() {
        guard let lastSettledAt else { return }
        socket?.read(until: lastSettledAt + Self.lingering)
    }

    /// Many times as long as a quorum queue takes to write.
    private static let lingering = Duration.milliseconds(250)

    static let tooLargeError = AMQPError(
        .tooLarge,
        "a message's properties and headers do not fit the connection's frame, or a name is longer than 255 bytes"
    )
    static let closedError = AMQPError(.closed, "the connection was closed")

    nonisolated func post(_ command: Command) -> Bool {
        let (isAccepted, isFirst) = mailbox.withLockedValue { box in
            guard !box.isClosed else { return (false, false) }
            box.commands.append(command)
            return (true, box.commands.count == 1)
        }
        // Whoever posted the first has woken the thread for all.
        if isFirst { thread.wake() }
        return isAccepted
    }
}
