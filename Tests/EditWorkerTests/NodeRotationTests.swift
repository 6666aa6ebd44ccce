import AMQP
import Testing

@testable import EditWorker

struct NodeRotationTests {
    private static let urls = (1...3).compactMap { try? AMQPURL(parsing: "amqp://host-\($0)/") }
    private let start = ContinuousClock.now

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

    @Test func `a node that another connection has reached comes first, once`() {
        var nodes = NodeRotation(Self.urls)
        nodes.note(Self.urls[2], isReached: false, at: start)
        nodes.prefer(Self.urls[2])
        #expect(nodes.hasPreference)
        #expect(nodes.take(at: start) == Self.urls[2])
        #expect(!nodes.hasPreference)
        #expect(nodes.take(at: start) == Self.urls[0])
    }
}
