import FoundationEssentials
import NIOCore
import NIOExtras
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOTLS
import SharedValues

/// Opens connections to an endpoint: TCP, a tunnel if there is a proxy and, where the scheme wants it, verified TLS, within
/// one time limit.
struct EndpointConnector: Sendable {
    /// The handshake failed or the certificate was refused.
    struct TLSFault: Error, CustomStringConvertible {
        /// NIOSSL's or BoringSSL's words.
        let description: String
    }

    /// The proxy opens no tunnel, and why.
    struct ProxyFault: Error, CustomStringConvertible {
        let description: String
    }

    let endpoint: APIEndpoint
    private let timeout: TimeAmount
    private let tls: NIOSSLContext?
    private let proxy: ProxyAddress?

    /// A connector; `caFile` is a PEM file with the trust roots, nil for the system's.
    ///
    /// Throws where that file cannot be read.
    init(_ endpoint: APIEndpoint, caFile: String?, proxy: ProxyAddress? = nil, timeout: Duration) throws {
        self.endpoint = endpoint
        self.proxy = proxy
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
            if let proxy {
                tunnel(through: proxy, bootstrap, until: deadline)
            } else {
                endpoint.socketAddress.map { bootstrap.connect(to: $0) }
                    ?? bootstrap.connect(host: endpoint.host, port: endpoint.port)
            }
        guard let tls else { return connection }
        return connection.flatMap { channel in
            handshake(on: channel, tls, until: deadline)
                .flatMapErrorThrowing { error in
                    channel.close(promise: nil)
                    throw TLSFault(description: NetworkFault.text(error))
                }
        }
    }

    /// A connection that the proxy has opened to the endpoint: CONNECT, whatever the scheme (RFC 9110 §9.3.6).
    private func tunnel(
        through proxy: ProxyAddress,
        _ bootstrap: ClientBootstrap,
        until deadline: NIODeadline
    ) -> EventLoopFuture<any Channel> {
        // The name is for the proxy to look up.
        let target = endpoint.host.contains(":") ? "[\(endpoint.host)]" : endpoint.host
        let port = endpoint.port
        var fields = HTTPHeaders([("Host", "\(target):\(port)")])
        if let credentials = proxy.credentials {
            fields.add(name: "Proxy-Authorization", value: "Basic \(Data(credentials).base64EncodedString())")
        }
        let headers = fields
        return bootstrap.connect(host: proxy.host, port: Int(proxy.port))
            .flatMap { channel in
                let opened = channel.eventLoop.makePromise(of: Void.self)
                let decoder = ByteToMessageHandler(HTTPResponseDecoder(leftOverBytesStrategy: .forwardBytes))
                let encoder = HTTPRequestEncoder()
                let connect = NIOHTTP1ProxyConnectHandler(
                    targetHost: target,
                    targetPort: port,
                    headers: headers,
                    deadline: deadline,
                    promise: opened
                )
                let pipeline = channel.pipeline.syncOperations
                do {
                    try pipeline.addHandlers(encoder, decoder, connect)
                } catch {
                    opened.fail(error)
                }
                return opened.futureResult.assumeIsolated()
                    .flatMap {
                        // The tunnel has bytes, and no messages.
                        let done = [pipeline.removeHandler(encoder), pipeline.removeHandler(decoder)]
                        return EventLoopFuture.andAllSucceed(done, on: channel.eventLoop)
                    }
                    .nonisolated()
                    .map { channel }
            }
            .flatMapErrorThrowing { error in
                switch error {
                // Of the proxy's name, not the API's.
                case let error as NIOConnectionError where error.connectionErrors.isEmpty:
                    throw ProxyFault(description: "the name of the proxy \(proxy) has no address")
                case let error as NIOHTTP1ProxyConnectHandler.Error where error == .proxyAuthenticationRequired():
                    throw ProxyFault(description: "the proxy \(proxy) wants a user and a password (407)")
                case is NIOHTTP1ProxyConnectHandler.Error:
                    throw ProxyFault(description: "the proxy \(proxy) opens no tunnel to \(endpoint.address)")
                default: throw error
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
