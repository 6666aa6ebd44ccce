import NIOCore
import NIOHTTP1

/// Reads the requests of one connection and has each answered; NIO's pipeline handler lets in one at a time.
final class RequestHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let longestBody: Int
    private let responder: HTTPServer.Responder
    private var head: HTTPRequestHead?
    /// Nil once it is too long.
    private var body: ByteBuffer? = ByteBuffer()
    private var answering: Task<Void, Never>?
    private var inFlight = 0
    private var isHalfClosed = false

    init(longestBody: Int, responder: @escaping HTTPServer.Responder) {
        self.longestBody = longestBody
        self.responder = responder
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            body = ByteBuffer()
        case .body(let piece):
            if let size = body?.readableBytes, piece.readableBytes <= longestBody - size {
                body?.writeImmutableBuffer(piece)
            } else {
                body = nil
            }
        case .end:
            guard let head else { return }
            let body = body
            self.body = ByteBuffer()
            answer(head, body, context)
        }
    }

    private func answer(_ head: HTTPRequestHead, _ body: ByteBuffer?, _ context: ChannelHandlerContext) {
        inFlight += 1
        let request = HTTPRequest(head, body: body, from: context.remoteAddress)
        let writer = ResponseWriter(request: head, channel: context.channel)
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        answering = Task { [responder] in
            let response =
                if let request { await responder(request) } else { HTTPResponse(.badRequest, type: "text/plain", []) }
            await writer.write(response)
            writer.channel.eventLoop.execute { handler.value.answered(on: writer.channel) }
        }
    }

    private func answered(on channel: any Channel) {
        inFlight -= 1
        closeIfDone(channel)
    }

    private func closeIfDone(_ channel: any Channel) {
        if isHalfClosed, inFlight == 0 { channel.close(promise: nil) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case ChannelEvent.inputClosed:
            isHalfClosed = true
            answering?.cancel()
            closeIfDone(context.channel)
        case is IdleStateHandler.IdleStateEvent:
            if inFlight == 0 { context.close(promise: nil) }
        default:
            context.fireUserInboundEventTriggered(event)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        answering?.cancel()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // What is no HTTP has been answered with 400 already, which the other end is to read before the end.
        context.close(mode: error is HTTPParserError ? .output : .all, promise: nil)
    }
}

/// Sends the response to one request.
private struct ResponseWriter: Sendable {
    /// Of one piece; whoever reads slower than that keeps others waiting for what the pieces come from.
    private static let writeTimeout = TimeAmount.seconds(60)

    let request: HTTPRequestHead
    let channel: any Channel

    /// Ends the connection where there is no response, or no way to send it.
    func write(_ response: HTTPResponse?) async {
        guard let response else { return channel.close(promise: nil) }
        do {
            try await write(response)
        } catch {
            // Ends before its end, which the other side sees.
            channel.close(promise: nil)
        }
    }

    private func write(_ response: HTTPResponse) async throws {
        var headers = response.headers
        var isKeptAlive = request.isKeepAlive
        switch response.body {
        case .bytes(let bytes): headers.replaceOrAdd(name: "Content-Length", value: "\(bytes.readableBytes)")
        // Before HTTP/1.1 only the end of the connection tells that it was all.
        case .pieces: if request.version != .http1_1 { isKeptAlive = false }
        }
        headers.replaceOrAdd(name: "Connection", value: isKeptAlive ? "keep-alive" : "close")
        let head = HTTPResponseHead(version: request.version, status: response.status, headers: headers)
        channel.write(HTTPServerResponsePart.head(head), promise: nil)
        if request.method != .HEAD {
            switch response.body {
            case .bytes(let bytes): channel.write(HTTPServerResponsePart.body(.byteBuffer(bytes)), promise: nil)
            case .pieces(let pieces): for try await piece in pieces { try await send(.body(.byteBuffer(piece))) }
            }
        }
        try await send(.end(nil))
        if !isKeptAlive { channel.close(promise: nil) }
    }

    private func send(_ part: HTTPServerResponsePart) async throws {
        let timeout = channel.eventLoop.scheduleTask(in: Self.writeTimeout) { [channel] in channel.close(promise: nil) }
        defer { timeout.cancel() }
        try await channel.writeAndFlush(part).get()
    }
}
