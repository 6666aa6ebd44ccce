import AsyncHTTPClient
import NIOCore
package import NIOPosix
import NIOSSL
import NIOTLS

/// Tries the way to the API without asking it anything: the name, the connection, the certificate.
package enum EndpointProbe {
    /// What is in the way.
    package enum Fault: Error, Hashable, Sendable {
        /// The base URL is none.
        case invalidURL
        /// No address for the name.
        case nameNotResolved(host: String)
        /// No connection, and why.
        case unreachable(address: String, reason: String)
        /// No TLS, and why.
        case tls(address: String, reason: String)
    }

    /// Connects and closes again; tells the address, and the TLS version where TLS is spoken.
    package static func reach(
        _ baseURL: String,
        caFile: String?,
        timeout: Duration,
        group: MultiThreadedEventLoopGroup
    ) async throws(Fault) -> (address: String, tlsVersion: String?) {
        guard let request = try? HTTPClient.Request(url: baseURL) else { throw .invalidURL }
        let address = "\(request.host):\(request.port)"
        let isSecure = request.scheme == "https"
        do {
            let channel = try await ClientBootstrap(group: group)
                .connectTimeout(TimeAmount(timeout))
                .connect(host: request.host, port: request.port)
                .get()
            defer { channel.close(promise: nil) }
            guard isSecure else { return (address, nil) }
            do {
                return (address, try await handshake(on: channel, host: request.host, caFile: caFile, timeout: timeout))
            } catch {
                throw Fault.tls(address: address, reason: "\(error)")
            }
        } catch let error as NIOConnectionError where error.connectionErrors.isEmpty {
            throw .nameNotResolved(host: request.host)
        } catch let error as NIOConnectionError {
            let reasons = error.connectionErrors.map { "\($0.error)" }
            throw .unreachable(address: address, reason: reasons.joined(separator: "; "))
        } catch let fault as Fault {
            throw fault
        } catch {
            throw .unreachable(address: address, reason: "\(error)")
        }
    }

    private static func handshake(
        on channel: any Channel,
        host: String,
        caFile: String?,
        timeout: Duration
    ) async throws -> String {
        var configuration = TLSConfiguration.makeClientConfiguration()
        if let caFile { configuration.trustRoots = .file(caFile) }
        let context = try NIOSSLContext(configuration: configuration)
        let isAddress = (try? SocketAddress(ipAddress: host, port: 0)) != nil
        return try await channel.eventLoop
            .flatSubmit {
                let done = channel.eventLoop.makePromise(of: String.self)
                let deadline = channel.eventLoop.scheduleTask(in: TimeAmount(timeout)) {
                    done.fail(ChannelError.connectTimeout(TimeAmount(timeout)))
                }
                done.futureResult.whenComplete { _ in deadline.cancel() }
                do {
                    try channel.pipeline.syncOperations.addHandlers(
                        NIOSSLClientHandler(context: context, serverHostname: isAddress ? nil : host),
                        HandshakeObserver(done: done)
                    )
                } catch {
                    done.fail(error)
                }
                return done.futureResult
            }
            .get()
    }
}

/// Tells the end of a TLS handshake.
private final class HandshakeObserver: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let done: EventLoopPromise<String>

    init(done: EventLoopPromise<String>) {
        self.done = done
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent {
            let handler = try? context.pipeline.syncOperations.handler(type: NIOSSLClientHandler.self)
            done.succeed(handler?.tlsVersion.map { "\($0)" } ?? "TLS")
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        done.fail(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        done.fail(ChannelError.eof)
    }
}
