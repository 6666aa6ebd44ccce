import EditWorker
import RabbitMQ
import SharedValues
import Testing

struct QueueTests {
    private static let queues = JobQueues(name: "q", retryDelays: [.seconds(30), .seconds(1), .seconds(120)])

    @Test func `the queues are named after the job queue`() {
        #expect(Self.queues.retries.map(\.name) == ["q.retry.1s", "q.retry.30s", "q.retry.2m"])
        #expect(Self.queues.deadLetters == "q.dlq")
        #expect(Self.queues.unknown == "q.unknown")
        #expect(Self.queues.results == "q.results")
    }

    @Test(
        arguments: [(0, "q.retry.1s"), (1, "q.retry.1s"), (2, "q.retry.30s"), (31, "q.retry.2m"), (121, nil)]
            as [(Int, ByteString?)]
    )
    func `a wait takes the shortest queue that is long enough`(_ seconds: Int, _ name: ByteString?) {
        #expect(Self.queues.retryQueue(for: .seconds(seconds))?.name == name)
    }

    @Test func `the arguments are the contract's`() {
        let topology = Topology(queues: Self.queues, type: .quorum, mode: .declare)
        let declared = Dictionary(
            uniqueKeysWithValues: topology.declarations(brokerMajor: 3).map { ($0.name, $0.arguments) }
        )
        #expect(
            declared["q"] == [
                "x-dead-letter-exchange": .text(""), "x-dead-letter-routing-key": .text("q.undelivered"),
                "x-overflow": .text("reject-publish"), "x-dead-letter-strategy": .text("at-least-once"),
                "x-delivery-limit": .int64(20), "x-queue-type": .text("quorum"),
            ]
        )
        #expect(
            declared["q.retry.2m"] == [
                "x-dead-letter-exchange": .text(""), "x-dead-letter-routing-key": .text("q"),
                "x-overflow": .text("reject-publish"), "x-dead-letter-strategy": .text("at-least-once"),
                "x-message-ttl": .int64(120_000), "x-queue-type": .text("quorum"),
            ]
        )
        #expect(declared["q.dlq"] == ["x-queue-type": .text("quorum")])
        #expect(declared["q.undelivered"]?["x-dead-letter-routing-key"] == .text("q.dlq"))
        #expect(declared["q.undelivered"]?["x-delivery-limit"] == nil)
        #expect(topology.binding == Binding(exchange: "q", queue: "q", routingKey: "q"))
        let four = topology.declarations(brokerMajor: 4)
        #expect(four.first { $0.name == "q.dlq" }?.arguments["x-delivery-limit"] == .int64(-1))
        #expect(four.first { $0.name == "q.results" }?.arguments["x-delivery-limit"] == .int64(-1))
        let classic = Topology(queues: Self.queues, type: .classic, mode: .declare).declarations(brokerMajor: 4)
        for declaration in classic {
            #expect(declaration.arguments["x-delivery-limit"] == nil)
            #expect(declaration.arguments["x-dead-letter-strategy"] == nil)
        }
    }

    @Test(
        arguments: [
            (nil, .results), ("", .results), ("back", .queue("back")), ("q", .refused("q")),
            ("q.dlq", .refused("q.dlq")),
            ("q.retry.1s", .refused("q.retry.1s")), ("q.results", .queue("q.results")), ("qq", .queue("qq")),
            ("amq.rabbitmq.reply-to.g1h2", .direct("amq.rabbitmq.reply-to.g1h2")),
        ] as [(ByteString?, ReplyAddress.Route)]
    )
    func `a reply goes where the job may send it`(_ replyTo: ByteString?, _ route: ReplyAddress.Route) {
        #expect(ReplyAddress(queues: Self.queues, allowed: [WildcardPattern("*")]).route(replyTo) == route)
    }

    @Test func `only allowed queues are written to`() {
        let address = ReplyAddress(queues: Self.queues, allowed: [WildcardPattern("team-?.*"), WildcardPattern("x")])
        #expect(address.route("team-a.results") == .queue("team-a.results"))
        #expect(address.route("team-ab.results") == .refused("team-ab.results"))
        #expect(address.route("x") == .queue("x"))
    }

    @Test func `the backoff is jittered and bounded`() {
        var backoff = ReconnectBackoff()
        #expect((0..<8).map { _ in backoff.next(fraction: 1) } == [1, 2, 4, 8, 16, 30, 30, 30].map { .seconds($0) })
        backoff.reset()
        #expect(backoff.next(fraction: 0.5) == .milliseconds(500))
        #expect(backoff.next(fraction: 0) == .zero)
    }
}
