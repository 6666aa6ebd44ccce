import NIOCore
import NIOHTTP1
import NIOSSL

/// One HTTP/1.1 connection: an exchange at a time, the next one only where both sides are done with the last.
///
/// Never sends anything twice. The last handler: before it NIO's decoder, and a `RawRequestHandler`.
final class HTTPConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private static let method = HTTPRequestHead(version: .http1_1, method: .POST, uri: "")

    /// Who gives out the connection; told when it is free and when it is gone.
    unowned let pool: HTTPConnectionPool
    /// Since when it has been free.
    var idleSince = NIODeadline.now()

    /// Where requests are written: before the decoder, which would look at them.
    var socketSide: ChannelHandlerContext?
    /// Where the decoder is told of them: behind it, and before what would change them.
    var decoderSide: ChannelHandlerContext?
    private var context: ChannelHandlerContext?
    private var isWritten = true
    private var isReusable = false
    private var isAnswered = false
    /// Under TLS a connection that is being closed stays active until the server has closed its side too.
    private var isClosing = false
    /// Whether TLS ended without a close_notify.
    private var isUnclean = false
    /// Until when another exchange may begin; nil as long as the server has announced nothing.
    private var reusableUntil: NIODeadline?
    /// The exchange under way.
    private(set) var exchange: SubmissionExchange?
    /// The exchange that it is kept for, whose request is not to be written yet.
    private(set) var reservedFor: SubmissionExchange?
    /// Whether a request has been written on it.
    private var isUsed = false
    private let openedAt = NIODeadline.now()

    init(pool: HTTPConnectionPool) {
        self.pool = pool
    }

    /// Whether an exchange may begin.
    var isFree: Bool { exchange == nil && !isClosing && !isUnclean && context?.channel.isActive == true && isFresh }

    /// Whether the server keeps the connection for some time yet.
    private var isFresh: Bool { reusableUntil.map { .now() < $0 } ?? true }

    /// Closes the connection, and with it what is under way.
    func close() {
        isClosing = true
        context?.close(promise: nil)
    }

    /// How long a connection is kept for a request that has not been written, after which a server may have closed it.
    private static let longestReservation = TimeAmount.seconds(15)

    /// Keeps a free connection for an exchange, whose request comes later.
    func reserve(for exchange: SubmissionExchange) {
        reservedFor = exchange
        exchange.connection = self
    }

    /// Gives back a connection that was kept for an exchange; whether it was.
    func endReservation(for exchange: SubmissionExchange) -> Bool {
        guard reservedFor === exchange else { return false }
        reservedFor = nil
        return true
    }

    /// Whether the request that the connection is kept for may be written on it.
    func mayBegin(idleTimeout: TimeAmount) -> Bool {
        let end = isUsed ? idleSince + idleTimeout : openedAt + Self.longestReservation
        return isFree && .now() < end
    }

    /// Begins an exchange on a free connection.
    func begin(_ exchange: SubmissionExchange) {
        guard let context, let socketSide, let decoderSide else { return exchange.fail(.notWritten) }
        self.exchange = exchange
        isUsed = true
        (isWritten, isReusable) = (false, false)
        // The decoder must know what an answer is to.
        decoderSide.write(wrapOutboundOut(.head(Self.method)), promise: nil)
        let request = exchange.start(on: self)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenSuccess { self.isWritten = true }
        socketSide.writeAndFlush(NIOAny(request), promise: written)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        (self.context, decoderSide) = (nil, nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let exchange, !isClosing else { return close() }
        switch unwrapInboundIn(data) {
        case .head(let head):
            isReusable = head.isKeepAlive && head.status != .switchingProtocols
            reusableUntil = Self.announcedEnd(of: head.headers)
            exchange.receive(head)
        case .body(let part):
            if !exchange.receive(part) { close() }
        case .end:
            if isUnclean { exchange.completeByUncleanEnd() } else { exchange.complete() }
            self.exchange = nil
            isAnswered = true
        }
    }

    /// When the connection must not be used any more: a second before its server closes it, for the way there takes time,
    /// and a request that meets the close may have been executed.
    ///
    /// Source: RFC 2068 §19.7.1.1, `Keep-Alive: timeout=5, max=100`.
    private static func announcedEnd(of fields: HTTPHeaders) -> NIODeadline? {
        let parameters = fields["keep-alive"]
            .flatMap { $0.lowercased().split(whereSeparator: { $0 == "," || $0 == ";" }) }
        let seconds = parameters.compactMap { parameter -> Int64? in
            let parts = parameter.split(separator: "=").map { $0.filter { $0 != " " && $0 != "\"" } }
            return parts.count == 2 && parts[0] == "timeout" ? Int64(parts[1]) : nil
        }
        return seconds.min().map { .now() + .seconds(min(max(0, $0), 86_400) - 1) }
    }

    /// Only now, when all that came has been read: what stands behind an answer must not become the next one's.
    func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()
        guard isAnswered, !isClosing else { return }
        isAnswered = false
        // An answer to half a request: the other half would be read as the next request.
        if isReusable, isWritten, isFresh { pool.free(self) } else { close() }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if case NIOSSLError.uncleanShutdown = error {
            // The decoder, which hears of the end next, knows whether the answer was whole.
            isUnclean = true
            return
        }
        exchange?.fail(.connectionEnded)
        exchange = nil
        close()
    }

    func channelInactive(context: ChannelHandlerContext) {
        reservedFor = nil
        exchange?.fail(.connectionEnded)
        exchange = nil
        pool.closed(self)
        context.fireChannelInactive()
    }
}
