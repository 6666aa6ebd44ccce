import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// An HTTP proxy that opens tunnels to this machine, or does what a script says instead.
package final class TunnelProxy: Sendable {
    /// What to do with a request for a tunnel.
    package enum Step: Sendable {
        /// Open it, to the port that was asked for.
        case open
        /// Answer so, and close.
        case refuse(String)
        case close
        case hang
    }

    private let heads = NIOLockedValueBox<[String]>([])
    private let channel: any Channel

    /// The port on 127.0.0.1.
    package let port: Int

    /// The heads of the requests so far.
    package var requests: [String] { heads.withLockedValue { $0 } }

    /// Listens on a free port; each answer comes after `delay`.
    package init(
        delay: Duration = .zero,
        _ script: @escaping @Sendable (_ head: String) -> Step = { _ in .open }
    ) async throws {
        let delay = TimeAmount.nanoseconds(Int64(delay / .nanoseconds(1)))
        let heads = heads
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        TunnelHandler(delay: delay) { head in
                            heads.withLockedValue { $0.append(head) }
                            return script(head)
                        }
                    )
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
    }

    package func close() async throws {
        try await channel.close()
    }
}

/// Reads the head of a request for a tunnel, and passes on what comes after it.
private final class TunnelHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let delay: TimeAmount
    private let script: (String) -> TunnelProxy.Step
    private var head = ""

    init(delay: TimeAmount, _ script: @escaping (String) -> TunnelProxy.Step) {
        self.delay = delay
        self.script = script
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        head += String(buffer: unwrapInboundIn(data))
        guard head.hasSuffix("\r\n\r\n") else { return }
        context.eventLoop.assumeIsolated().scheduleTask(in: delay) { self.answer(context) }
    }

    private func answer(_ context: ChannelHandlerContext) {
        let channel = context.channel
        switch script(head) {
        case .hang: break
        case .close: context.close(promise: nil)
        case .refuse(let text):
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)))
                .whenComplete { _ in channel.close(promise: nil) }
        case .open:
            let target = head.split(separator: " ").dropFirst().first.map(String.init) ?? ""
            let port = target.split(separator: ":").last.flatMap { Int($0) } ?? 0
            let pipeline = context.pipeline.syncOperations
            ClientBootstrap(group: context.eventLoop).connect(host: "127.0.0.1", port: port).assumeIsolated()
                .whenComplete { result in
                    guard case .success(let server) = result else { return channel.close(promise: nil) }
                    do {
                        try server.pipeline.syncOperations.addHandler(Relay(to: channel))
                        try pipeline.addHandler(Relay(to: server))
                        pipeline.removeHandler(self, promise: nil)
                        channel.writeAndFlush(
                            ByteBuffer(string: "HTTP/1.1 200 Connection established\r\n\r\n"),
                            promise: nil
                        )
                    } catch {
                        channel.close(promise: nil)
                    }
                }
        }
    }
}
