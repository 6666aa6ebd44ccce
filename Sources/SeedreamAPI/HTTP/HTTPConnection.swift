import NIOCore
import NIOHTTP1

/// One HTTP/1.1 connection: an exchange at a time, the next one only where both sides are done with the last.
///
/// The last handler behind NIO's own decoder. Never sends anything twice.
final class HTTPConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private static let method = HTTPRequestHead(version: .http1_1, method: .POST, uri: "")

    /// Who gives out the connection; told when it is free and when it is gone.
    unowned let pool: HTTPConnectionPool
    /// Since when it has been free.
    var idleSince = NIODeadline.now()

    private var context: ChannelHandlerContext?
    private var isWritten = true
    private var isReusable = false
    private var isAnswered = false
    /// Under TLS a connection that is being closed stays active until the server has closed its side too.
    private var isClosing = false
    /// The exchange under way.
    private(set) var exchange: SubmissionExchange?

    init(pool: HTTPConnectionPool) {
        self.pool = pool
    }

    /// Whether an exchange may begin.
    var isFree: Bool { exchange == nil && !isClosing && context?.channel.isActive == true }

    /// Closes the connection, and with it what is under way.
    func close() {
        isClosing = true
        context?.close(promise: nil)
    }

    /// Begins an exchange on a free connection.
    func begin(_ exchange: SubmissionExchange) {
        guard let context else { return exchange.fail(.notWritten) }
        self.exchange = exchange
        (isWritten, isReusable) = (false, false)
        let request = exchange.start(on: self)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenSuccess { self.isWritten = true }
        // For the decoder, which must know what an answer is to.
        context.write(wrapOutboundOut(.head(Self.method)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(request))), promise: written)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let exchange, !isClosing else { return close() }
        switch unwrapInboundIn(data) {
        case .head(let head):
            isReusable = head.isKeepAlive && head.status != .switchingProtocols
            exchange.receive(head)
        case .body(let part):
            if !exchange.receive(part) { close() }
        case .end:
            exchange.complete()
            self.exchange = nil
            isAnswered = true
        }
    }

    /// Only now, when all that came has been read: what stands behind an answer must not become the next one's.
    func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()
        guard isAnswered, !isClosing else { return }
        isAnswered = false
        // An answer to half a request: the other half would be read as the next request.
        if isReusable, isWritten { pool.free(self) } else { close() }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        exchange?.fail(.connectionEnded)
        exchange = nil
        close()
    }

    func channelInactive(context: ChannelHandlerContext) {
        exchange?.fail(.connectionEnded)
        exchange = nil
        pool.closed(self)
        context.fireChannelInactive()
    }
}

/// Lets requests through that were encoded before, in the place of NIO's encoder.
final class EncodedRequestHandler: ChannelOutboundHandler {
    typealias OutboundIn = HTTPClientRequestPart
    typealias OutboundOut = ByteBuffer

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .body(.byteBuffer(let request)) = unwrapOutboundIn(data) else {
            promise?.succeed()
            return
        }
        context.write(wrapOutboundOut(request), promise: promise)
    }
}
