import NIOCore
import NIOHTTP1

/// Stands between NIO's decoder and the socket, and lets pass only requests that are encoded already.
///
/// What else is written tells the decoder what an answer is to, and goes no further.
final class RawRequestHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = HTTPClientRequestPart
    typealias OutboundOut = ByteBuffer

    private let connection: HTTPConnection

    /// For the requests of a connection, whose handler is the last.
    init(_ connection: HTTPConnection) {
        self.connection = connection
    }

    func handlerAdded(context: ChannelHandlerContext) {
        connection.socketSide = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        connection.socketSide = nil
    }

    /// What comes without a request, be it half an answer, must not become the next one's.
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard connection.exchange != nil else { return connection.close() }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        promise?.succeed()
    }
}
