import NIOConcurrencyHelpers
import ThreadExecutor

/// A connection to a broker with one channel; gives out the roles that use it, `Consumer` and `Publisher`.
///
/// Runs on a thread of its own, on which librabbitmq is called and nothing else; see `SocketThread`. A connection that
/// broke stays broken: open another one, where the tags of the old one mean nothing.
package actor AMQPConnection {
    /// Something that happened to the connection, for those who watch it.
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
        var isBlocked = false
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
    /// See `AMQPConnection+Consuming.swift`.
    var consuming = ConsumingState()
    /// See `AMQPConnection+Publishing.swift`.
    var publishing = PublishingState()

    package nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe thread.asUnownedSerialExecutor() }

    static let epochs = NIOLockedValueBox<UInt64>(0)

    private init(options: AMQPConnectionOptions) throws(AMQPError) {
        self.options = options
        do throws(SocketThread.ResourceFault) {
            thread = try SocketThread(name: options.name)
        } catch {
            throw AMQPError(.noResources, "cannot start a connection's thread: \(error)", cause: error)
        }
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
    package static func open(
        _ url: AMQPURL,
        options: AMQPConnectionOptions
    ) async throws(AMQPError) -> AMQPConnection {
        let connection = try AMQPConnection(options: options)
        try await connection.connect(url)
        return connection
    }

    func connect(_ url: AMQPURL) throws(AMQPError) {
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

    /// Whether the broker has stopped reading what is published here (`connection.blocked`).
    ///
    /// From any thread.
    package nonisolated var isBlocked: Bool { mailbox.withLockedValue { $0.isBlocked } }

    // MARK: - Topology

    /// Declares a queue; an existing one with the same arguments is left as it is.
    package func declare(_ queue: QueueDeclaration) throws(AMQPError) -> QueueStatus {
        try onSocket { socket throws(AMQPError) in try socket.declare(queue, passive: false) }
    }

    /// Asks for a queue without changing anything; the error is `notFound` if there is none.
    package func inspect(queue: ByteString) throws(AMQPError) -> QueueStatus {
        try onSocket { socket throws(AMQPError) in
            try socket.declare(QueueDeclaration(name: queue), passive: true)
        }
    }

    /// Declares an exchange; the error is `preconditionFailed` if there is one of another kind.
    package func declare(_ exchange: ExchangeDeclaration) throws(AMQPError) {
        try onSocket { socket throws(AMQPError) in try socket.declare(exchange, passive: false) }
    }

    /// Asks for an exchange without changing anything; the error is `notFound` if there is none.
    package func inspect(exchange: ByteString) throws(AMQPError) {
        try onSocket { socket throws(AMQPError) in
            try socket.declare(ExchangeDeclaration(name: exchange), passive: true)
        }
    }

    /// Deletes an exchange, unless something is bound to it.
    package func deleteUnused(exchange: ByteString) throws(AMQPError) {
        try onSocket { socket throws(AMQPError) in try socket.deleteUnused(exchange: exchange) }
    }

    /// Binds a queue to an exchange.
    package func bind(_ binding: Binding) throws(AMQPError) {
        try onSocket { socket throws(AMQPError) in try socket.bind(binding) }
    }

    /// The name that the broker knows the user by, whatever the login was; the error is `accessRefused` if it does not say.
    package func userName() throws(AMQPError) -> String {
        try onSocket { socket throws(AMQPError) in try socket.userName() }
    }

    /// Deletes a queue with what is in it.
    package func delete(queue: ByteString) throws(AMQPError) {
        try onSocket { socket throws(AMQPError) in try socket.delete(queue: queue) }
    }

    // MARK: - Closing

    /// How long to wait for the broker's goodbye: there is nothing more to ask.
    ///
    /// Longer if the broker may still be at the last acknowledgements, which it drops with a connection that ends.
    private static let patience = (usual: Duration.milliseconds(500), settling: Duration.seconds(3))

    /// Sends what is waiting, says goodbye to the broker, and ends the consumers.
    package func close() { close(AMQPConnection.closedError) }

    /// `close`; `reason` is what those hear who use the connection.
    func close(_ reason: AMQPError) {
        guard socket != nil else { return }
        do {
            try runCommands()
            try flushAcknowledgements()
            try socket?.flush()
            // What is asked from here on could not be sent any more.
            mailbox.withLockedValue { $0.isClosed = true }
            // A broker that blocks us does not read, and would let us wait for nothing.
            if !publishing.isBlocked {
                linger()
                let (usual, settling) = Self.patience
                let isSettling = consuming.lastSettledAt.map { .now - $0 < settling } ?? false
                socket?.close(patience: isSettling ? settling : usual)
            }
        } catch {
            // The connection is gone already, which is what was wanted.
        }
        end(reason)
    }

    /// Ends the connection: each waiter hears of it, once.
    func end(_ error: AMQPError) {
        socket = nil
        let commands = mailbox.withLockedValue { box in
            box.isClosed = true
            defer { box.commands = [] }
            return box.commands
        }
        endPublishing(commands, error)
        endConsuming()
        watcher.yield(.closed(error))
        watcher.finish()
    }

    static let closedError = AMQPError(.closed, "the connection was closed")

    // MARK: - Asking the thread

    /// Leaves a command for the thread's next turn; false if the connection has ended.
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

    /// Asks the broker something and waits for the answer, on the thread.
    func onSocket<Result>(
        _ body: (BrokerSocket) throws(AMQPError) -> Result
    ) throws(AMQPError) -> Result {
        guard let socket else { throw Self.closedError }
        defer {
            // Otherwise librabbitmq keeps the frames of every answer until the next event, and a connection that only asks
            // has none.
            socket.releaseFrames()
            // The answer may have been read together with deliveries, which `poll` no longer sees.
            thread.wake()
        }
        do {
            return try body(socket)
        } catch {
            if !socket.isUsable { end(error) }
            throw error
        }
    }
}
