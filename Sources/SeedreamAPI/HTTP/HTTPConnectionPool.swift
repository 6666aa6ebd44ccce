import Glibc
import NIOCore
import NIOHTTP1
import NIOHTTPCompression
import NIOPosix
import NIOSSL

/// The connections to one endpoint: kept alive, each for one exchange at a time, up to a limit.
///
/// Lives on one loop. Whoever finds no free connection waits in line while one is opened; a connection that cannot be
/// opened fails the first in the line, since the gate decides when to try again.
///
/// Our own: over AsyncHTTPClient 1.37, which tells by `didSendRequestHead` whether a request may have been sent, a job costs 2.84
/// times its CPU time (median of three interleaved rounds, `memory`); 1.15 times would have been taken.
final class HTTPConnectionPool {
    private let connector: EndpointConnector
    private let loop: any EventLoop
    private let limit: Int
    private let idleTimeout: TimeAmount
    private let longestBody: Int

    /// The connections that are open.
    private var connections: [ObjectIdentifier: HTTPConnection] = [:]
    /// Those without an exchange; the last one is used next, so that the rest may grow old and go.
    private var idle: [HTTPConnection] = []
    private var connecting = 0
    private var waiting = CircularBuffer<SubmissionExchange>()
    /// Whether the loop has been told to hand out connections.
    private var isHandingOut = false
    private var deadlineTimer: Scheduled<Void>?
    private var idleTimer: Scheduled<Void>?
    private var closing: EventLoopPromise<Void>?

    /// No connection yet; at most `limit` at once, each kept for `idleTimeout` without an exchange.
    ///
    /// Of a compressed body at most `longestBody` bytes are unpacked.
    init(
        _ connector: EndpointConnector,
        on loop: any EventLoop,
        limit: Int,
        idleTimeout: TimeAmount,
        longestBody: Int = SubmissionExchange.longestBody
    ) {
        self.longestBody = longestBody
        self.connector = connector
        self.loop = loop
        self.limit = max(1, limit)
        self.idleTimeout = idleTimeout
    }

    /// Sends a request on a free connection, or as soon as there is one.
    func submit(_ exchange: SubmissionExchange) {
        guard closing == nil else { return exchange.fail(.cancelled) }
        guard !exchange.isDone else { return }
        arm(atLatest: exchange.deadline)
        waiting.append(exchange)
        guard !isHandingOut else { return }
        isHandingOut = true
        // After the other jobs of this turn: requests that are written one after another wake the server once.
        loop.assumeIsolated().execute { self.handOut() }
    }

    private func handOut() {
        isHandingOut = false
        while !waiting.isEmpty, let connection = idle.popLast() {
            guard connection.isFree else {
                // Free no longer, or not for long enough: what the server has announced is over.
                connection.close()
                continue
            }
            if !serve(connection) { idle.append(connection) }
        }
        connect()
    }

    /// Gives a connection to the first in the line; false if none needs it any more.
    private func serve(_ connection: HTTPConnection) -> Bool {
        while let next = waiting.popFirst() {
            guard !next.isDone else { continue }
            if let onConnected = next.onConnected {
                connection.reserve(for: next)
                onConnected()
            } else {
                connection.begin(next)
            }
            return true
        }
        return false
    }

    /// Whether the connection that was kept for an exchange can still be used.
    func mayBegin(_ exchange: SubmissionExchange) -> Bool {
        guard let connection = exchange.connection, connection.reservedFor === exchange else { return false }
        return connection.mayBegin(idleTimeout: idleTimeout)
    }

    /// Sends the request of an exchange on the connection that was kept for it, or on another if that is gone.
    func begin(_ exchange: SubmissionExchange) {
        guard closing == nil else { return exchange.fail(.cancelled) }
        guard mayBegin(exchange), let connection = exchange.connection else {
            release(exchange)
            return submit(exchange)
        }
        _ = connection.endReservation(for: exchange)
        arm(atLatest: exchange.deadline)
        connection.begin(exchange)
    }

    /// Gives back the connection that was kept for an exchange, or the place in the line.
    func release(_ exchange: SubmissionExchange) {
        waiting.removeAll { $0 === exchange }
        guard let connection = exchange.connection, connection.endReservation(for: exchange) else { return }
        if connection.mayBegin(idleTimeout: idleTimeout) { free(connection) } else { connection.close() }
    }

    /// Gives up an exchange, wherever it is.
    func cancel(_ exchange: SubmissionExchange) {
        give(up: exchange, .cancelled)
    }

    /// Ends everything; succeeds when the last connection is closed.
    func shutdown() -> EventLoopFuture<Void> {
        let closing = closing ?? loop.makePromise(of: Void.self)
        self.closing = closing
        deadlineTimer?.cancel()
        idleTimer?.cancel()
        while let exchange = waiting.popFirst() { exchange.fail(.cancelled) }
        for connection in connections.values {
            connection.exchange?.fail(.cancelled)
            connection.close()
        }
        finishClosing()
        return closing.futureResult
    }

    // MARK: - What connections tell

    /// A connection has no exchange any more, or not yet.
    func free(_ connection: HTTPConnection) {
        guard closing == nil else { return connection.close() }
        connection.idleSince = .now()
        guard !serve(connection) else { return }
        idle.append(connection)
        if idleTimer == nil { armIdle(connection.idleSince + idleTimeout) }
    }

    /// A connection is gone.
    func closed(_ connection: HTTPConnection) {
        connections[ObjectIdentifier(connection)] = nil
        if let index = idle.lastIndex(where: { $0 === connection }) { idle.remove(at: index) }
        connect()
        finishClosing()
    }

    // MARK: - Opening

    /// Opens as many connections as the line needs and the limit allows.
    private func connect() {
        // What is about to be handed out may go to a connection that is free already.
        guard !isHandingOut else { return }
        while closing == nil, connecting < waiting.count, connections.count + connecting < limit {
            connecting += 1
            connector.connect(on: loop).assumeIsolated()
                .whenComplete { result in
                    self.connecting -= 1
                    switch result {
                    case .success(let channel): self.opened(channel)
                    case .failure(let error): self.failed(error)
                    }
                    self.finishClosing()
                }
        }
    }

    private func opened(_ channel: any Channel) {
        let connection = HTTPConnection(pool: self)
        // Some servers compress whatever a request accepts.
        let decompressor = NIOHTTPResponseDecompressor(limit: .size(longestBody))
        do {
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandlers([
                RawRequestHandler(connection),
                ByteToMessageHandler(HTTPResponseDecoder(leftOverBytesStrategy: .dropBytes)), decompressor, connection,
            ])
            connection.decoderSide = try pipeline.context(handler: decompressor)
        } catch {
            channel.close(promise: nil)
            return failed(error)
        }
        guard channel.isActive else { return failed(ChannelError.alreadyClosed) }
        connections[ObjectIdentifier(connection)] = connection
        free(connection)
    }

    private func failed(_ error: any Error) {
        // As in `connect`, which `handOut` calls again for those that are left.
        guard !isHandingOut else { return }
        let reason = Self.reason(error)
        while let first = waiting.popFirst() {
            guard !first.isDone else { continue }
            first.fail(reason)
            break
        }
        // Not from here: an attempt may fail at once, and a long line would become a deep stack.
        if !waiting.isEmpty { loop.assumeIsolated().execute { self.connect() } }
    }

    private static func reason(_ error: any Error) -> TransportFailure {
        switch error {
        // A name cannot be looked up either where no file can be opened.
        case let error as NIOConnectionError where error.connectionErrors.isEmpty:
            isOutOfFilesNow ? .outOfFiles : .nameNotResolved
        case let fault as EndpointConnector.ProxyFault: .proxy(fault.description)
        case is EndpointConnector.TLSFault: .tls
        case let error as NIOConnectionError where error.connectionErrors.contains { Self.isOutOfFiles($0.error) }:
            .outOfFiles
        case _ where isOutOfFiles(error): .outOfFiles
        default: .notConnected
        }
    }

    private static var isOutOfFilesNow: Bool {
        let descriptor = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard descriptor < 0 else {
            close(descriptor)
            return false
        }
        return errno == EMFILE || errno == ENFILE
    }

    /// open(2): of this process, or of the whole system.
    private static func isOutOfFiles(_ error: any Error) -> Bool {
        guard let error = error as? IOError else { return false }
        return error.errnoCode == EMFILE || error.errnoCode == ENFILE
    }

    // MARK: - Time

    /// All wait equally long, so that the timer for an earlier one comes first anyway.
    private func arm(atLatest deadline: NIODeadline) {
        if deadlineTimer == nil { arm(deadline) }
    }

    private func arm(_ deadline: NIODeadline) {
        deadlineTimer = loop.assumeIsolated().scheduleTask(deadline: deadline) { self.expire() }
    }

    /// Ends what is over, and looks for what will be next: once in a timeout, not once a request.
    private func expire() {
        deadlineTimer = nil
        let now = NIODeadline.now()
        let open = Array(waiting) + connections.values.compactMap(\.exchange)
        for exchange in open where exchange.deadline <= now { give(up: exchange, .timedOut) }
        waiting.removeAll(where: \.isDone)
        if let next = open.lazy.filter({ !$0.isDone }).map(\.deadline).min() { arm(next) }
    }

    private func give(up exchange: SubmissionExchange, _ reason: TransportFailure) {
        guard !exchange.isDone else { return }
        exchange.fail(reason)
        // Whatever still comes on it answers no request.
        exchange.connection?.close()
    }

    private func armIdle(_ deadline: NIODeadline) {
        idleTimer = loop.assumeIsolated().scheduleTask(deadline: deadline) { self.closeIdle() }
    }

    private func closeIdle() {
        idleTimer = nil
        let oldest = NIODeadline.now() - idleTimeout
        let old = idle.prefix { $0.idleSince <= oldest }
        idle.removeFirst(old.count)
        for connection in old { connection.close() }
        if let next = idle.first { armIdle(next.idleSince + idleTimeout) }
    }

    private func finishClosing() {
        guard connections.isEmpty, connecting == 0 else { return }
        closing?.succeed()
    }
}
