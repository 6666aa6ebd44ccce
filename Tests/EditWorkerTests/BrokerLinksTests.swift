import Logging
import NIOConcurrencyHelpers
import RabbitMQ
import TestSupport
import Testing

@testable import EditWorker

@Suite(.timeLimit(.minutes(10)))
struct BrokerLinksTests {
    @Test func `a link that has failed for long tries at once when another has reached the broker`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let isBack = NIOLockedValueBox(false)
            let back = AsyncStream.makeStream(of: Never.self)
            let failures = NIOLockedValueBox(0)
            let logger = Logger(label: "quiet", factory: { _ in SwiftLogNoOpLogHandler() })
            let health = WorkerHealth(metrics: .silent)
            func link<Session>(_ role: BrokerRole, _ setup: @escaping BrokerLink<Session>.Setup) -> BrokerLink<Session>
            {
                BrokerLink(
                    urls: [broker.url],
                    options: AMQPConnectionOptions(name: role.rawValue),
                    role: role,
                    health: health,
                    logger: logger,
                    setup: setup
                )
            }
            let links = BrokerLinks(
                consumer: link(.consumer) { connection throws(AMQPError) in
                    for await _ in back.stream {}
                    return connection
                },
                publisher: link(.publisher) { connection throws(AMQPError) in
                    guard isBack.withLockedValue({ $0 }) else {
                        failures.withLockedValue { $0 += 1 }
                        throw AMQPError(.timedOut, "the stream has no leader")
                    }
                    return try await connection.makePublisher()
                }
            )
            let running = Task { try await links.run(failFast: false) }
            // The wait is up to 32 s then, and rarely shorter than two.
            try await eventually("the waits have grown", within: .seconds(90)) { failures.withLockedValue { $0 } >= 5 }
            isBack.withLockedValue { $0 = true }
            back.continuation.finish()
            try await eventually("the consumer is there") { links.consumer.current != nil }
            let start = ContinuousClock.now
            try await eventually("the publisher is there", within: .seconds(40)) { links.publisher.current != nil }
            let elapsed = ContinuousClock.now - start
            #expect(try await elapsed < paced(.seconds(1)))
            await links.stop()
            running.cancel()
            _ = try? await running.value
        }
    }
}
