import EditWorker
import Journal
import Logging
import RabbitMQ
import SeedreamAPI
import SharedValues
import TestSupport
import Testing

/// The service on a real broker, with a pipeline whose API is simulated.
@Suite(.timeLimit(.minutes(10)))
struct EditWorkerServiceTests {
    @Test func `no job is taken before there is a connection to reply on`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let proxy = try await FaultProxy(target: Int(broker.url.port))
            proxy.refuse(true)
            let refused = try AMQPURL(
                parsing: "amqp://guest:guest@127.0.0.1:\(proxy.port)/\(broker.virtualHost)"
            )
            let logger = Logger(label: "quiet", factory: { _ in SwiftLogNoOpLogHandler() })
            let health = WorkerHealth(metrics: .silent)
            let topology = Topology(
                queues: JobQueues(name: "q", retryDelays: [.milliseconds(1)]),
                type: .quorum,
                mode: .declare
            )
            func link<Session>(
                _ role: BrokerRole,
                _ url: AMQPURL,
                _ setup: @escaping BrokerLink<Session>.Setup
            ) -> BrokerLink<Session> {
                BrokerLink(
                    urls: [url],
                    options: AMQPConnectionOptions(name: role.rawValue),
                    role: role,
                    health: health,
                    logger: logger,
                    setup: setup
                )
            }
            let world = SimulatedWorld(body: "") { _ in
                let body = Array(#"{"task_id":"t"}"#.utf8)
                return (.answered(APIAnswer(status: 200, body: .complete(body))), true)
            }
            let gate = Gate.simulated()
            let service = EditWorkerService(
                links: BrokerLinks(
                    consumer: link(.consumer, broker.url) { connection throws(AMQPError) in
                        try await topology.establish(on: connection)
                        return connection
                    },
                    publisher: link(.publisher, refused) { connection throws(AMQPError) in
                        try await connection.makePublisher()
                    }
                ),
                journal: MemoryJournal(),
                queue: "q",
                prefetch: 10,
                gate: gate,
                pipeline: .simulated(in: world, MemoryJournal(), gate: gate),
                executor: globalConcurrentExecutor,
                failFast: false,
                health: health,
                logger: logger
            )
            let running = Task { try await service.run() }
            try await broker.withConnection { connection in
                try await eventually("the queues") { (try? await connection.inspect(queue: "q")) != nil }
                let body = Array(#"{"image_urls":["https://a"],"prompt":"x"}"#.utf8)
                #expect(try await connection.publish(OutboundMessage(routingKey: "q", body: body)) == .confirmed)
                let attempts = proxy.connections
                try await eventually("the publisher tries twice more", within: .seconds(120)) {
                    proxy.connections >= attempts + 2
                }
                let waiting = try await connection.inspect(queue: "q")
                #expect(waiting.consumerCount == 0)
                #expect(waiting.messageCount == 1)
                #expect(world.submissions == 0)
                proxy.refuse(false)
                try await eventually("the job is submitted") { world.submissions == 1 }
                try await eventually("the job is acknowledged") {
                    try await connection.inspect(queue: "q").messageCount == 0
                }
            }
            running.cancel()
            try await proxy.close()
        }
    }
}
