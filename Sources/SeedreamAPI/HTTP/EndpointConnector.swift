import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

/// Opens connections to an endpoint: TCP and, where the scheme wants it, verified TLS, within one time limit.
struct EndpointConnector: Sendable {
    /// The handshake failed or the certificate was refused.
    struct TLSFault: Error, CustomStringConvertible {
        /// NIOSSL's or BoringSSL's words.
        let description: String
    }

    let endpoint: APIEndpoint
    private let timeout: TimeAmount
    private let tls: NIOSSLContext?

    /// A connector; `caFile` is a PEM file with the trust roots, nil for the system's.
    ///
    /// Throws where that file cannot be read.
    init(_ endpoint: APIEndpoint, caFile: String?, timeout: Duration) throws {
        self.endpoint = endpoint
        self.timeout = TimeAmount(timeout)
        guard endpoint.isSecure else {
            tls = nil
            return
        }
        var configuration = TLSConfiguration.makeClientConfiguration()
        if let caFile { configuration.trustRoots = .file(caFile) }
        // RFC 8996: what is older is broken.
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        tls = try NIOSSLContext(configuration: configuration)
    }

    /// A connection over which HTTP can be spoken at once, on that loop.
    ///
    /// Fails with `TLSFault`, or with what NIO says of the connection: then nothing was sent.
    func connect(on loop: any EventLoop) -> EventLoopFuture<any Channel> {
        let deadline = NIODeadline.now() + timeout
        let bootstrap = ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            // Answers are short, and every connection has a buffer.
            .channelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 512, initial: 512, maximum: 16384)
            )
        let connection =
            endpoint.socketAddress.map { bootstrap.connect(to: $0) }
            ?? bootstrap.connect(host: endpoint.host, port: endpoint.port)
        guard let tls else { return connection }
        return connection.flatMap { channel in
            handshake(on: channel, tls, until: deadline)
                .flatMapErrorThrowing { error in
                    channel.close(promise: nil)
                    throw TLSFault(description: "\(error)")
                }
        }
    }

    private func handshake(
        on channel: any Channel,
        _ context: NIOSSLContext,
        until deadline: NIODeadline
    ) -> EventLoopFuture<any Channel> {
        let done = channel.eventLoop.makePromise(of: Void.self)
        let limit = channel.eventLoop.scheduleTask(deadline: deadline) { [timeout] in
            done.fail(ChannelError.connectTimeout(timeout))
        }
        do {
            // Server Name Indication knows no addresses (RFC 6066 §3).
            let name = endpoint.socketAddress == nil ? endpoint.host : nil
            try channel.pipeline.syncOperations.addHandlers(
                NIOSSLClientHandler(context: context, serverHostname: name),
                HandshakeObserver(done: done)
            )
        } catch {
            done.fail(error)
        }
        return done.futureResult.map {
            limit.cancel()
            return channel
        }
    }
}

/// Tells the end of a TLS handshake, and then has no more to do.
private final class HandshakeObserver: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    private let done: EventLoopPromise<Void>

    init(done: EventLoopPromise<Void>) {
        self.done = done
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case .handshakeCompleted? = event as? TLSUserEvent else {
            return context.fireUserInboundEventTriggered(event)
        }
        done.succeed()
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        done.fail(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        done.fail(ChannelError.eof)
        context.fireChannelInactive()
    }
}
