import Glibc
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
package import NIOPosix
import NIOSSL

/// A real HTTP server that does to each request what a script says, also what no decent server does.
package final class ScriptedServer: Sendable {
    /// What to do once a request was read whole.
    package enum Step: Sendable {
        /// Send these bytes.
        case send(String)
        /// Send these bytes and close.
        case sendAndClose(String)
        case sendBytes([UInt8])
        /// Send these bytes and end the connection below TLS, without its close_notify.
        case sendAndCut(String)
        /// Close without an answer.
        case close
        case reset
        case hang
    }

    /// A request as it came.
    package struct Request: Sendable {
        package let path: String
        /// The header fields in their order.
        package let headers: [(name: String, value: String)]
        package let body: [UInt8]
        /// Which connection of the server it came on, from 0.
        package let connection: Int

        /// The first field of that name.
        package func header(_ name: String) -> String? {
            headers.first { $0.name.lowercased() == name.lowercased() }?.value
        }
    }

    private struct State {
        var requests: [Request] = []
        var connections = 0
        var open = 0
        var channels: [any Channel] = []
    }

    private let state = NIOLockedValueBox(State())
    private let channel: any Channel

    /// The port on 127.0.0.1.
    package let port: Int

    /// The requests so far.
    package var requests: [Request] { state.withLockedValue { $0.requests } }

    /// How many connections are open.
    package var openConnections: Int { state.withLockedValue { $0.open } }

    /// An answer with a JSON body.
    package static func answer(_ status: Int, _ body: String, headers: String = "") -> String {
        "HTTP/1.1 \(status) X\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\(headers)\r\n\(body)"
    }

    /// Listens on a free port; `script` is asked for each request, with its number from 0.
    ///
    /// With a certificate, over TLS; `isOutdated` speaks only versions of it that are broken.
    package init(
        group: MultiThreadedEventLoopGroup = .singleton,
        port: Int = 0,
        certificate: TestCertificate? = nil,
        isOutdated: Bool = false,
        _ script: @escaping @Sendable (Int, Request) -> Step
    ) async throws {
        let state = state
        let tls = try certificate.map { certificate in
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: try NIOSSLCertificate.fromPEMFile(certificate.certificatePath)
                    .map { .certificate($0) },
                privateKey: .privateKey(try NIOSSLPrivateKey(file: certificate.keyPath, format: .pem))
            )
            if isOutdated {
                configuration.minimumTLSVersion = .tlsv1
                configuration.maximumTLSVersion = .tlsv11
            }
            return try NIOSSLContext(configuration: configuration)
        }
        channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                let number = state.withLockedValue { state in
                    state.connections += 1
                    state.open += 1
                    state.channels.append(channel)
                    return state.connections - 1
                }
                channel.closeFuture.whenComplete { _ in state.withLockedValue { $0.open -= 1 } }
                return channel.eventLoop.makeCompletedFuture {
                    if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
                    let decoder = ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes))
                    try channel.pipeline.syncOperations.addHandler(decoder)
                    let handler = ScriptHandler(connection: number) { request in
                        let index = state.withLockedValue { state in
                            state.requests.append(request)
                            return state.requests.count - 1
                        }
                        return script(index, request)
                    }
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }
            .bind(host: "127.0.0.1", port: port).get()
        self.port = channel.localAddress?.port ?? port
    }

    package func close() async throws {
        try await channel.close()
    }

    /// Sends these bytes on all open connections, without a request.
    package func send(_ text: String) async throws {
        for channel in state.withLockedValue({ $0.channels }) where channel.isActive {
            try await channel.writeAndFlush(ByteBuffer(string: text))
        }
    }

    /// Closes all connections that clients have opened.
    package func closeConnections() async throws {
        for channel in state.withLockedValue({ $0.channels }) where channel.isActive { try await channel.close() }
    }
}

private final class ScriptHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = ByteBuffer

    private let connection: Int
    private let next: (ScriptedServer.Request) -> ScriptedServer.Step
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []

    init(connection: Int, next: @escaping (ScriptedServer.Request) -> ScriptedServer.Step) {
        self.connection = connection
        self.next = next
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            body = []
        case .body(let buffer):
            body += buffer.readableBytesView
        case .end:
            guard let head else { return }
            let fields = head.headers.map { (name: $0.name, value: $0.value) }
            run(next(.init(path: head.uri, headers: fields, body: body, connection: connection)), context)
        }
    }

    private func run(_ step: ScriptedServer.Step, _ context: ChannelHandlerContext) {
        switch step {
        case .send(let text):
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
        case .sendAndClose(let text):
            let channel = context.channel
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)))
                .whenComplete { _ in
                    channel.close(promise: nil)
                }
        case .sendBytes(let bytes):
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
        case .sendAndCut(let text):
            let pipeline = context.pipeline.syncOperations
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text))).assumeIsolated()
                .whenComplete { _ in
                    // From its own place on the way to the socket the handler does not see the close.
                    try? pipeline.context(handlerType: NIOSSLServerHandler.self).close(promise: nil)
                }
        case .close:
            context.close(promise: nil)
        case .reset:
            let channel = context.channel
            // A zero linger makes the close a RST.
            let options = channel as? any SocketOptionProvider
            options?.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenComplete { _ in channel.close(promise: nil) }
        case .hang:
            break
        }
    }
}
