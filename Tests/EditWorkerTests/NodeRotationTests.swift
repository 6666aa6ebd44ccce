import RabbitMQ
import Testing

@testable import EditWorker

struct NodeRotationTests {
    private static let urls = (1...3).compactMap { try? AMQPURL(parsing: "amqp://host-\($0)/") }
    private let start = ContinuousClock.now

    private static func taken(_ nodes: inout NodeRotation, _ now: ContinuousClock.Instant) -> [AMQPURL] {
        [nodes.take(at: now)]
    }

    @Test func `the nodes are tried in turn`() {
        var nodes = NodeRotation(Self.urls)
        #expect((0..<4).map { _ in nodes.take(at: start) } == [Self.urls[0], Self.urls[1], Self.urls[2], Self.urls[0]])
    }

    @Test func `one that could not be reached is passed over for a while`() {
        var nodes = NodeRotation(Self.urls)
        nodes.note(Self.urls[0], isReached: false, at: start)
        #expect((0..<3).map { _ in nodes.take(at: start) } == [Self.urls[1], Self.urls[2], Self.urls[1]])
        // It may be the only one that is up again.
        #expect((0..<2).map { _ in nodes.take(at: start + .seconds(31)) } == [Self.urls[2], Self.urls[0]])
        nodes.note(Self.urls[0], isReached: false, at: start + .seconds(31))
        nodes.note(Self.urls[0], isReached: true, at: start + .seconds(32))
        #expect((0..<3).map { _ in nodes.take(at: start + .seconds(33)) }.contains(Self.urls[0]))
    }

    @Test func `if none could be reached all are tried in turn`() {
        var nodes = NodeRotation(Self.urls)
        for url in Self.urls { nodes.note(url, isReached: false, at: start) }
        #expect((0..<4).map { _ in nodes.take(at: start) } == [Self.urls[0], Self.urls[1], Self.urls[2], Self.urls[0]])
    }

    @Test func `a node that could not be reached is waited for in full only if no other could be`() {
        var nodes = NodeRotation(Self.urls)
        #expect(!nodes.hasBetter(than: Self.urls[0]))
        nodes.note(Self.urls[0], isReached: false, at: start)
        #expect(nodes.hasBetter(than: Self.urls[0]) && !nodes.hasBetter(than: Self.urls[1]))
        for url in Self.urls { nodes.note(url, isReached: false, at: start) }
        #expect(!nodes.hasBetter(than: Self.urls[0]))
        nodes.note(Self.urls[0], isReached: true, at: start)
        #expect(!nodes.hasBetter(than: Self.urls[0]) && nodes.hasBetter(than: Self.urls[2]))
    }

    @Test func `a node that another connection has reached comes first, once`() throws {
        var nodes = NodeRotation(Self.urls)
        let isTaken = nodes.prefer(Self.urls[1], at: start)
        #expect(isTaken)
        #expect(nodes.hasPreference)
        #expect(Self.taken(&nodes, start) == [Self.urls[1]])
        #expect(!nodes.hasPreference)
        // Behind it, so that who leaves this node does not come back to it.
        #expect(Self.taken(&nodes, start) == [Self.urls[2]])
        // A link that knows another broker goes on with its own.
        let elsewhere = try AMQPURL(parsing: "amqp://elsewhere/")
        _ = nodes.prefer(elsewhere, at: start)
        #expect(Self.taken(&nodes, start) == [Self.urls[0]])
    }

    @Test func `the only node is tried at once if another connection has reached it, though this one could not before`()
    {
        var nodes = NodeRotation([Self.urls[0]])
        nodes.note(Self.urls[0], isReached: false, at: start)
        let isTaken = nodes.prefer(Self.urls[0], at: start)
        #expect(isTaken && nodes.hasPreference)
    }

    @Test func `a node that does not answer is not preferred because another connection could be opened there`() {
        var nodes = NodeRotation(Self.urls)
        nodes.leave(Self.urls[2], at: start)
        let isTaken = nodes.prefer(Self.urls[2], at: start)
        #expect(!isTaken)
        #expect(Self.taken(&nodes, start) == [Self.urls[0]])
    }
}
