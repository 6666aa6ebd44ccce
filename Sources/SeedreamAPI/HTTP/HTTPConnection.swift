import NIOCore
import NIOHTTP1

/// One HTTP/1.1 connection: an exchange at a time, the next one only where both sides are done with the last.
///
/// Never sends anything twice. The last handler: before it NIO's decoder, for answers that are not plain, and a
/// `PlainAnswerHandler`, which reads all others.
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
    private var context: ChannelHandlerContext?
    private var isDecoding = false
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
        guard let context, let socketSide else { return exchange.fail(.notWritten) }
        self.exchange = exchange
        (isWritten, isReusable, isDecoding) = (false, false, false)
        let request = exchange.start(on: self)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenSuccess { self.isWritten = true }
        socketSide.writeAndFlush(NIOAny(request), promise: written)
    }

    /// Takes a plain answer; false if the decoder is to read what has come.
    func receive(_ bytes: ByteBuffer) -> Bool {
        guard let exchange, !isClosing else {
            close()
            return true
        }
        guard !isDecoding else { return false }
        guard exchange.receivePlain(bytes) else {
            isDecoding = true
            // The decoder must know what an answer is to.
            context?.write(wrapOutboundOut(.head(Self.method)), promise: nil)
            return false
        }
        end(isReusable: true)
        return true
    }

    /// The answer is complete.
    private func end(isReusable: Bool) {
        self.isReusable = isReusable
        exchange = nil
        isAnswered = true
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
            end(isReusable: isReusable)
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
