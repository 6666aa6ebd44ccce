import Foundation
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import TestSupport

/// A connection over which bytes go as they are, and what came back.
final class RawClient: Sendable {
    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let seen: NIOLockedValueBox<String>

        init(_ seen: NIOLockedValueBox<String>) {
            self.seen = seen
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let text = String(buffer: unwrapInboundIn(data))
            seen.withLockedValue { $0 += text }
        }
    }

    private let channel: any Channel
    private let seen = NIOLockedValueBox("")
    private let closed = NIOLockedValueBox(false)

    init(port: Int) async throws {
        let seen = seen
        channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.allowRemoteHalfClosure, value: false)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Collector(seen))
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        channel.closeFuture.whenComplete { [closed] _ in closed.withLockedValue { $0 = true } }
    }

    /// All that has come so far.
    var received: String { seen.withLockedValue { $0 } }
    /// Whether the server has ended the connection, or we have.
    var isClosed: Bool { closed.withLockedValue { $0 } }

    func send(_ text: String) async throws {
        try await channel.writeAndFlush(ByteBuffer(string: text)).get()
    }

    func endOutput() async throws {
        try await channel.close(mode: .output).get()
    }

    func close() async throws {
        try await channel.close().get()
    }

    /// Ends the connection in a way that the other side sees at once.
    func reset() async throws {
        // A zero linger makes the close a RST.
        let options = channel as? any SocketOptionProvider
        try await options?.setSoLinger(linger(l_onoff: 1, l_linger: 0)).get()
        try await close()
    }

    /// What has come when `count` responses' last lines have, each being `end`.
    func responses(_ count: Int, endingWith end: String) async throws -> String {
        try await eventually("\(count) responses") { self.received.components(separatedBy: end).count > count }
        return received
    }
}
