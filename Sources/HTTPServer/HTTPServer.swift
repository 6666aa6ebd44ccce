import NIOConcurrencyHelpers
package import NIOCore
import NIOHTTP1
import NIOPosix

/// Serves HTTP/1.1 with a function from a request to its response.
///
/// Our own, a few lines around NIO's HTTP types: HummingbirdCore and the packages that it wants, for three small servers,
/// took 40 s of a first build of 267 and 2 MB of the binary (guide "What a job costs").
package struct HTTPServer: Sendable {
    /// What answers a request; nil ends the connection without an answer.
    ///
    /// Cancelled when the requester has gone, or when the server has waited long enough at its end.
    package typealias Responder = @Sendable (HTTPRequest) async -> HTTPResponse?

    /// A connection without a request is closed after this time; longer than the minute between two scrapes.
    private static let idleTimeout = TimeAmount.seconds(75)

    private let host: String
    private let port: Int
    private let group: any EventLoopGroup
    private let longestBody: Int
    private let patience: TimeAmount
    private let responder: Responder

    /// A server for an address, on the event loops of `group`; port 0 lets the system choose.
    ///
    /// Of a longer body than `longestBody` bytes nothing is kept. What is in flight when the server ends has `patience`.
    package init(
        host: String,
        port: Int,
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        longestBody: Int,
        patience: TimeAmount = .seconds(5),
        responder: @escaping Responder
    ) {
        self.host = host
        self.port = port
        self.group = group
        self.longestBody = longestBody
        self.patience = patience
        self.responder = responder
    }

    /// Listens until the task is cancelled, then answers what has been asked; `onListen` hears the port.
    ///
    /// Throws NIO's error where the address is taken or not ours.
    package func run(onListen: @Sendable (Int) async -> Void) async throws {
        let connections = OpenConnections()
        let (longestBody, responder) = (longestBody, responder)
        let listener = try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            // netcat and its like end their side with the request, and wait for the answer.
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                connections.add(channel)
                return channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.configureHTTPServerPipeline(withErrorHandling: true)
                    try pipeline.addHandler(IdleStateHandler(allTimeout: Self.idleTimeout))
                    try pipeline.addHandler(RequestHandler(longestBody: longestBody, responder: responder))
                }
            }
            .bind(host: host, port: port).get()
        await onListen(listener.localAddress?.port ?? port)
        await withTaskCancellationHandler {
            try? await listener.closeFuture.get()
        } onCancel: {
            listener.close(promise: nil)
        }
        await connections.end(within: patience)
    }
}

/// The connections that are open.
private final class OpenConnections: Sendable {
    private let channels = NIOLockedValueBox<[ObjectIdentifier: any Channel]>([:])

    func add(_ channel: any Channel) {
        channels.withLockedValue { $0[ObjectIdentifier(channel)] = channel }
        channel.closeFuture.whenComplete { [channels] _ in
            channels.withLockedValue { _ = $0.removeValue(forKey: ObjectIdentifier(channel)) }
        }
    }

    /// Closes what is idle at once, the rest when its response is sent or the time is over.
    func end(within patience: TimeAmount) async {
        let channels = channels.withLockedValue { Array($0.values) }
        for channel in channels {
            channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
            let deadline = channel.eventLoop.scheduleTask(in: patience) { channel.close(promise: nil) }
            channel.closeFuture.whenComplete { _ in deadline.cancel() }
        }
        for channel in channels { try? await channel.closeFuture.get() }
    }
}
