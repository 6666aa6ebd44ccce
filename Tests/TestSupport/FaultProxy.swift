import NIOConcurrencyHelpers
package import NIOCore
import NIOPosix

/// Stands between a client and a server on 127.0.0.1 and does to their bytes what bad networks do.
package final class FaultProxy: Sendable {
    /// What happens to a piece of bytes.
    package enum Fault: Sendable {
        case none
        /// It arrives after so long, and all behind it.
        case delay(TimeAmount)
        /// It arrives byte by byte, in writes of their own.
        case fragment
        /// The connection ends within it.
        case cut
        /// Neither side hears of the other any more, and the connection stays.
        case blackhole
    }

    fileprivate struct State {
        var target: Int
        var isSilent = false
        var isRefusing = false
        var connections = 0
        var faults = 0
        var open: [ObjectIdentifier: any Channel] = [:]
        var choose: @Sendable () -> Fault = { .none }
    }

    private let state: NIOLockedValueBox<State>
    private let channel: any Channel

    /// The port on 127.0.0.1.
    package let port: Int

    package var connections: Int { state.withLockedValue { $0.connections } }

    package var faults: Int { state.withLockedValue { $0.faults } }

    /// Passes everything on to `target`, until it is told otherwise.
    package init(target: Int) async throws {
        let state = NIOLockedValueBox(State(target: target))
        self.state = state
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { client in
                let target = state.withLockedValue { state -> Int? in
                    state.connections += 1
                    state.open[ObjectIdentifier(client)] = client
                    return state.isRefusing ? nil : state.target
                }
                client.closeFuture.whenComplete { _ in
                    state.withLockedValue { $0.open[ObjectIdentifier(client)] = nil }
                }
                guard let target else { return client.close() }
                return ClientBootstrap(group: client.eventLoop).connect(host: "127.0.0.1", port: target)
                    .flatMap { server in
                        client.eventLoop.makeCompletedFuture {
                            try client.pipeline.syncOperations.addHandler(FaultyRelay(to: server, state.choice))
                            try server.pipeline.syncOperations.addHandler(FaultyRelay(to: client, state.choice))
                        }
                    }
                    .flatMap { client.setOption(.autoRead, value: true) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
    }

    /// From now on what `choose` says happens to each piece of bytes.
    package func misbehave(_ choose: @escaping @Sendable () -> Fault) {
        state.withLockedValue { $0.choose = choose }
    }

    /// Neither side of any connection hears of the other any more; or again, on new connections.
    package func silence(_ isSilent: Bool) {
        state.withLockedValue { $0.isSilent = isSilent }
    }

    /// Reads nothing more of the clients, so that what they write fills their sockets.
    package func stopReading() async throws {
        for client in state.withLockedValue({ Array($0.open.values) }) {
            try await client.setOption(.autoRead, value: false).get()
        }
    }

    /// Closes each new connection at once; or no longer.
    package func refuse(_ isRefusing: Bool) {
        state.withLockedValue { $0.isRefusing = isRefusing }
    }

    /// Stops listening and ends all connections.
    package func close() async throws {
        try await channel.close()
        for connection in state.withLockedValue({ $0.open.values.map { $0 } }) { connection.close(promise: nil) }
    }
}

extension NIOLockedValueBox<FaultProxy.State> {
    /// Chooses what happens to the next piece, and counts it.
    fileprivate var choice: @Sendable () -> FaultProxy.Fault {
        { [self] in
            withLockedValue { state in
                if state.isSilent { return .blackhole }
                let fault = state.choose()
                if case .none = fault { return fault }
                state.faults += 1
                return fault
            }
        }
    }
}

/// Passes bytes on in their order, each piece as the choice says.
private final class FaultyRelay: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let other: any Channel
    private let choose: @Sendable () -> FaultProxy.Fault
    private var isSilent = false
    /// When the last piece goes out; none overtakes it.
    private var due = NIODeadline.now()

    init(to other: any Channel, _ choose: @escaping @Sendable () -> FaultProxy.Fault) {
        self.other = other
        self.choose = choose
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isSilent else { return }
        let bytes = unwrapInboundIn(data)
        switch choose() {
        case .none: send([bytes], context)
        case .delay(let wait):
            due = max(due, .now() + wait)
            send([bytes], context)
        case .fragment:
            send(
                (0..<bytes.readableBytes).compactMap { bytes.getSlice(at: bytes.readerIndex + $0, length: 1) },
                context
            )
        case .cut:
            let half = bytes.getSlice(at: bytes.readerIndex, length: bytes.readableBytes / 2) ?? bytes
            let (other, channel) = (other, context.channel)
            other.writeAndFlush(half)
                .whenComplete { _ in
                    other.close(promise: nil)
                    channel.close(promise: nil)
                }
        case .blackhole: isSilent = true
        }
    }

    private func send(_ pieces: [ByteBuffer], _ context: ChannelHandlerContext) {
        let other = other
        _ = context.eventLoop.scheduleTask(deadline: due) {
            for piece in pieces { other.writeAndFlush(piece, promise: nil) }
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        // Whoever cannot be heard cannot be heard closing either.
        if !isSilent { other.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
