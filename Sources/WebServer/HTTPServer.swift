import NIOConcurrencyHelpers
package import NIOCore
package import NIOHTTP1
import NIOPosix
import SystemPackage

/// Serves HTTP/1.1 with a function from a request to its response.
///
/// Our own, over NIO's HTTP types: HummingbirdCore and the packages that it needs, for three small servers, took 21 s of a
/// first build of 267 s, and 2.2 MB of the binary (guide "What a job costs").
package struct HTTPServer: Sendable {
    /// What answers a request; nil ends the connection without an answer.
    ///
    /// Cancelled when the connection is gone, or when the server has waited long enough while it stops. A client that has
    /// closed only its own side, as netcat does after a request, still gets its answer; a client that has left often looks
    /// the same.
    package typealias Responder = @Sendable (HTTPRequest) async -> HTTPResponse?

    /// Longest head of a request, in bytes.
    private static let longestHead = 80 * 1024

    /// The address cannot be listened on.
    package struct CannotListen: Error, CustomStringConvertible {
        /// `cannot listen on HOST:PORT`, and the system's reason.
        package let description: String
    }

    /// The system has closed the listening socket unasked.
    package struct ListenerEnded: Error, CustomStringConvertible {
        /// What is wrong.
        package let description = "the system has closed the listening socket"
    }

    /// What clients may use of the server.
    package struct Bounds: Sendable {
        /// Bytes of a body that are kept; of a longer one the responder learns that it was too long.
        package var longestBody: Int
        /// A lower bound for some requests, by their head.
        package var longestBodyOf: (@Sendable (HTTPRequestHead) -> Int)?
        /// Maximum connections: a further one takes the place of the one that has waited longest for a request, or if all are
        /// answering, of the one that has done so longest.
        ///
        /// Far below the usual limit of 1024 open files per process, which the worker's own connections need too.
        package var connections = 128
        /// A connection is closed unless a whole request comes within this time, however slowly its bytes do; longer than the
        /// minute between two scrapes.
        package var wait = TimeAmount.seconds(75)
        /// Requests in flight when the server stops have this long to finish.
        package var patience = TimeAmount.seconds(5)

        package init(longestBody: Int) {
            self.longestBody = longestBody
        }
    }

    private let host: String
    private let port: Int
    private let group: any EventLoopGroup
    private let bounds: Bounds
    private let responder: Responder

    /// A server for an address, on the event loops of `group`; port 0 lets the system choose.
    package init(
        host: String,
        port: Int,
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        bounds: Bounds,
        responder: @escaping Responder
    ) {
        self.host = host
        self.port = port
        self.group = group
        self.bounds = bounds
        self.responder = responder
    }

    /// Listens until the task is cancelled, then answers what has been asked; `onListen` hears the port.
    ///
    /// Returns when the last responder has returned. Throws `CannotListen`, and `ListenerEnded`.
    package func run(onListen: @Sendable (Int) async -> Void) async throws {
        let work = OpenWork(mostConnections: bounds.connections)
        let (bounds, responder) = (bounds, responder)
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = Self.longestHead
        limits.maxHeaderListSize = Self.longestHead
        let listener = try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(AcceptPause()) }
            }
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { [limits] channel in
                work.add(channel)
                return channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.configureHTTPServerPipeline(
                        withPipeliningAssistance: true,
                        withErrorHandling: true,
                        withOutboundHeaderValidation: true,
                        withEncoderConfiguration: .init(),
                        withDecoderLimitConfiguration: limits
                    )
                    try pipeline.addHandler(RequestHandler(work, bounds, responder))
                }
            }
            .listen(on: host, port)
        await onListen(listener.localAddress?.port ?? port)
        await withTaskCancellationHandler {
            try? await listener.closeFuture.get()
        } onCancel: {
            listener.close(promise: nil)
        }
        await work.end(within: bounds.patience)
        guard Task.isCancelled else { throw ListenerEnded() }
    }
}

extension ServerBootstrap {
    fileprivate func listen(on host: String, _ port: Int) async throws -> any Channel {
        do {
            return try await bind(host: host, port: port).get()
        } catch {
            let reason = (error as? IOError).map { Errno(rawValue: $0.errnoCode).description } ?? "\(error)"
            let address = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
            throw HTTPServer.CannotListen(description: "cannot listen on \(address): \(reason)")
        }
    }
}
