import NIOCore
import NIOHTTP1

/// Reads the requests of one connection and has each answered; NIO's pipeline handler lets in one at a time.
final class RequestHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    /// How much more of a body that is too long is read, so that its sender gets the answer.
    private static let longestRest = 4 << 20

    private let work: OpenWork
    private let bounds: HTTPServer.Bounds
    private let responder: HTTPServer.Responder
    private var head: HTTPRequestHead?
    private var longestBody = 0
    private var body = ByteBuffer()
    /// Bytes of the body that were not kept.
    private var dropped = 0
    private var answering: Task<Void, Never>?
    private var inFlight = 0
    private var deadline: Scheduled<Void>?
    /// No request will come, or none is to be read.
    private var isLast = false

    init(_ work: OpenWork, _ bounds: HTTPServer.Bounds, _ responder: @escaping HTTPServer.Responder) {
        self.work = work
        self.bounds = bounds
        self.responder = responder
    }

    func channelActive(context: ChannelHandlerContext) {
        awaitRequest(on: context.channel)
        context.fireChannelActive()
    }

    private func awaitRequest(on channel: any Channel) {
        guard channel.isActive else { return }
        work.note(channel, isAnswering: false)
        deadline = channel.eventLoop.scheduleTask(in: bounds.wait) { channel.close(promise: nil) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            (body, dropped) = (ByteBuffer(), 0)
            longestBody = min(bounds.longestBody, bounds.longestBodyOf?(head) ?? .max)
            // RFC 9110 §10.1.1.
            if head.version == .http1_1, head.headers.first(name: "Expect")?.lowercased() == "100-continue" {
                let go = HTTPResponseHead(version: head.version, status: .continue)
                context.writeAndFlush(wrapOutboundOut(.head(go)), promise: nil)
            }
        case .body(let piece):
            if dropped == 0, piece.readableBytes <= longestBody - body.readableBytes {
                body.writeImmutableBuffer(piece)
            } else {
                dropped += body.readableBytes + piece.readableBytes
                body = ByteBuffer()
                if dropped > longestBody + Self.longestRest { context.close(promise: nil) }
            }
        case .end:
            guard let head else { return }
            let body = dropped == 0 ? body : nil
            self.body = ByteBuffer()
            answer(head, body, context)
        }
    }

    private func answer(_ head: HTTPRequestHead, _ body: ByteBuffer?, _ context: ChannelHandlerContext) {
        inFlight += 1
        deadline?.cancel()
        work.note(context.channel, isAnswering: true)
        let request = HTTPRequest(head, body: body)
        let writer = ResponseWriter(request: head, channel: context.channel)
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        answering = work.begin { [responder] in
            let response =
                if let request { await responder(request) } else { HTTPResponse(.badRequest, type: "text/plain", []) }
            await writer.write(response)
            writer.channel.eventLoop.execute { handler.value.answered(on: writer.channel) }
        }
    }

    private func answered(on channel: any Channel) {
        inFlight -= 1
        if inFlight == 0 { awaitRequest(on: channel) }
        closeIfDone(channel)
    }

    private func closeIfDone(_ channel: any Channel) {
        if isLast, inFlight == 0 { channel.close(promise: nil) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case ChannelEvent.inputClosed, is OpenWork.EndEvent:
            isLast = true
            closeIfDone(context.channel)
        default:
            context.fireUserInboundEventTriggered(event)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        answering?.cancel()
        deadline?.cancel()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A request that is not HTTP has been answered with 400 already; leave the client time to read it.
        context.close(mode: error is HTTPParserError ? .output : .all, promise: nil)
    }
}

/// Sends the response to one request.
private struct ResponseWriter: Sendable {
    /// For each piece: a client that reads more slowly holds up whatever the pieces come from.
    private static let writeTimeout = TimeAmount.seconds(60)
    private static let longestPiece = 256 * 1024

    let request: HTTPRequestHead
    let channel: any Channel

    /// Closes the connection if there is no response, or if it cannot be sent.
    func write(_ response: HTTPResponse?) async {
        guard let response else { return channel.close(promise: nil) }
        do {
            try await write(response)
        } catch {
            // The response breaks off, and the client can tell.
            channel.close(promise: nil)
        }
    }

    private func write(_ response: HTTPResponse) async throws {
        var headers = response.headers
        // After a request to change the protocol the decoder reads nothing more.
        var isKeptAlive =
            request.isKeepAlive && request.method != .CONNECT && !request.headers.contains(name: "Upgrade")
        switch response.body {
        case .bytes(let bytes): headers.replaceOrAdd(name: "Content-Length", value: "\(bytes.readableBytes)")
        // Without chunks only the end of the connection tells that it was all.
        case .pieces: if request.version != .http1_1 || request.method == .HEAD { isKeptAlive = false }
        }
        headers.replaceOrAdd(name: "Connection", value: isKeptAlive ? "keep-alive" : "close")
        let head = HTTPResponseHead(version: request.version, status: response.status, headers: headers)
        channel.write(HTTPServerResponsePart.head(head), promise: nil)
        if request.method != .HEAD { try await write(response.body) }
        try await send(.end(nil))
        if !isKeptAlive { channel.close(promise: nil) }
    }

    private func write(_ body: HTTPResponse.Body) async throws {
        switch body {
        case .bytes(var bytes):
            while bytes.readableBytes > Self.longestPiece, let piece = bytes.readSlice(length: Self.longestPiece) {
                try await send(.body(.byteBuffer(piece)))
            }
            channel.write(HTTPServerResponsePart.body(.byteBuffer(bytes)), promise: nil)
        case .pieces(let pieces):
            for try await piece in pieces { try await send(.body(.byteBuffer(piece))) }
            // A stream whose task was cancelled ends early, as if it were complete.
            try Task.checkCancellation()
        }
    }

    private func send(_ part: HTTPServerResponsePart) async throws {
        let timeout = channel.eventLoop.scheduleTask(in: Self.writeTimeout) { [channel] in channel.close(promise: nil) }
        defer { timeout.cancel() }
        try await channel.writeAndFlush(part).get()
    }
}
