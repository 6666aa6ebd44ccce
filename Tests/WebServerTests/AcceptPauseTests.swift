import NIOCore
import NIOEmbedded
import Testing

@testable import WebServer

/// What the accept loop does when it fails.
struct AcceptPauseTests {
    /// Counts what comes through to the socket's side.
    private final class Reads: ChannelOutboundHandler {
        typealias OutboundIn = any Channel

        var count = 0

        func read(context: ChannelHandlerContext) { count += 1 }
    }

    private struct Shortage: Error {}

    @Test func `after a failure it rests, and then goes on`() throws {
        let reads = Reads()
        let channel = EmbeddedChannel(handlers: [reads, AcceptPause()])
        defer { _ = try? channel.finish() }
        channel.read()
        #expect(reads.count == 1)
        channel.pipeline.fireErrorCaught(Shortage())
        for _ in 0..<3 { channel.read() }
        #expect(reads.count == 1)
        channel.embeddedEventLoop.advanceTime(by: .seconds(1))
        #expect(reads.count == 2)
        channel.read()
        #expect(reads.count == 3)
    }

    @Test func `if nobody wants more, nothing is accepted after the rest`() throws {
        let reads = Reads()
        let channel = EmbeddedChannel(handlers: [reads, AcceptPause()])
        defer { _ = try? channel.finish() }
        channel.pipeline.fireErrorCaught(Shortage())
        channel.embeddedEventLoop.advanceTime(by: .seconds(1))
        #expect(reads.count == 0)
    }
}
