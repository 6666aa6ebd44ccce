import NIOCore
import NIOHTTP1

/// What stands between NIO's decoder and the socket: passes on only what the decoder has to read, and nothing that it
/// would write, since requests are encoded before.
final class PlainAnswerHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = HTTPClientRequestPart
    typealias OutboundOut = ByteBuffer

    private let connection: HTTPConnection

    /// For the answers of a connection, whose handler is the last.
    init(_ connection: HTTPConnection) {
        self.connection = connection
    }

    func handlerAdded(context: ChannelHandlerContext) {
        connection.socketSide = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        connection.socketSide = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !connection.receive(unwrapInboundIn(data)) else { return }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        promise?.succeed()
    }
}
