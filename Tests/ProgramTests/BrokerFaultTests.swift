import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// A broker that drops connections and queues under a running worker.
    @Suite(.timeLimit(.minutes(10)))
    struct BrokerFaultTests {
        /// Closes every connection of the test's virtual host whose name contains a text.
        private static func closeConnections(_ service: ServiceFixture, _ name: String) async throws -> Int {
            let listed = try await TestBroker.management("GET", "/api/vhosts/\(service.broker.virtualHost)/connections")
            guard case .array(let connections) = listed else { return 0 }
            var closed = 0
            for connection in connections {
                guard connection["client_properties"]?["connection_name"]?.text?.contains(name) == true,
                    let id = connection["name"]?.text?.addingPercentEncoding(withAllowedCharacters: .alphanumerics)
                else { continue }
                _ = try? await TestBroker.management("DELETE", "/api/connections/\(id)")
                closed += 1
            }
            return closed
        }

        @Test func `connections closed by force cost no job and no money`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "250ms"]) { service in
                let worker = try await service.startWorker(["SEEDREAM_WORKER_CONCURRENCY": "50"])
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 2000))
                var closed = 0
                // The management API learns of new connections every five seconds.
                try await eventually("all have ended", within: .seconds(120)) {
                    closed += try await Self.closeConnections(service, "seedream-worker")
                    let unknown = try await Int64(service.ready("jobs.unknown"))
                    return try await service.count("accepted") + unknown >= 2000
                }
                // Both connections, while jobs were in flight; how often depends on the management API.
                #expect(closed >= 2)
                // What was under way when the last of them was closed is told after the next delivery, some of it twice.
                try await eventually("all are told, and none is left", within: .seconds(60)) {
                    guard try await service.ready("jobs.results") >= 2000 else { return false }
                    return try await service.broker.queue("jobs")["messages"]?.exactInteger == 0
                }
                worker.signal(SIGTERM)
                #expect(try await worker.outcome().status == 0)
                #expect(try await service.ready("jobs") == 0)
                let replies = try await service.broker.take(
                    Int(try await service.ready("jobs.results")),
                    from: "jobs.results"
                )
                try await service.expectSubmittedOrInDoubt(replies, jobs: 2000)
            }
        }

        @Test func `a connection that is lost is told with the broker that it was to`() async throws {
            try await ServiceFixture.with { service in
                let proxy = try await FaultProxy(target: Int(service.broker.url.port))
                let worker = try await service.startWorker([
                    "SEEDREAM_AMQP_URL": "amqp://guest:guest@127.0.0.1:\(proxy.port)/\(service.broker.virtualHost)"
                ])
                try await proxy.close()
                try await worker.waitForStderr("no connection to the broker")
                let line = try #require(
                    worker.stderr.split(separator: "\n").first { $0.contains("no connection to the broker") }
                )
                #expect(line.contains("127.0.0.1:\(proxy.port)"), "\(line)")
            }
        }

        @Test func `a reply queue that is full costs its own jobs a detour, and no others anything`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.broker.withConnection { connection in
                    let arguments: FieldTable = ["x-max-length": .int64(1), "x-overflow": .text("reject-publish")]
                    _ = try await connection.declare(QueueDeclaration(name: "full", arguments: arguments))
                    _ = try await connection.publish(OutboundMessage(routingKey: "full", body: []))
                }
                try await service.publish([ServiceFixture.job()]) { $1.replyTo = "full" }
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["status"]?.text == "submitted")
                #expect(reply.header("x-undeliverable-reply-to") == "full")
            }
        }

        @Test func `a direct reply-to that nobody has given out harms no other job`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "500ms"]) { service in
                let worker = try await service.startWorker()
                let made = ["amq.rabbitmq.reply-to.a.b", "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.g1h2AA==.x"]
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 30)) { index, properties in
                    if index % 10 == 0 { properties.replyTo = ByteString(made[index / 10]) }
                }
                let replies = try await service.broker.take(30, from: "jobs.results")
                let failed = replies.filter { $0.json["status"]?.text == "failed" }
                #expect(failed.count == 3)
                #expect(failed.allSatisfy { $0.json["error"]?["code"]?.text == "requester_gone" })
                #expect(failed.allSatisfy { $0.header("x-undeliverable-reply-to") != nil })
                #expect(try await service.count("accepted") == 27)
                #expect(!worker.stderr.contains("no connection to the broker"), "\(worker.stderr)")
            }
        }

        @Test func `headers of ours that a producer has made up are no danger`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "0ms", "--fault", "500=100"]) { service in
                _ = try await service.startWorker([
                    "SEEDREAM_RETRY_DELAYS": "50ms", "SEEDREAM_RETRY_MAX_ATTEMPTS": "2",
                ])
                try await service.publish([ServiceFixture.job()]) { _, properties in
                    properties.headers = [
                        "x-original-routing-key": .text(String(repeating: "k", count: 120_000)),
                        "x-original-exchange": .text(String(repeating: "e", count: 300)),
                    ]
                }
                let letter = try #require(try await service.broker.take(1, from: "jobs.unknown").first)
                #expect(letter.header("x-error-code") == "retries_exhausted")
                #expect(letter.header("x-original-routing-key") == "jobs")
                #expect(try await service.count("requests") == 2)
            }
        }

        @Test func `a job with a broken trace context is a job like any other`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.publish([ServiceFixture.job()]) { _, properties in
                    properties.headers = [
                        "traceparent": .text("00-x\r\nHost: evil"),
                        "tracestate": .text(String(repeating: "s", count: 90_000)),
                    ]
                }
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["status"]?.text == "submitted")
                #expect(reply.header("traceparent") == nil)
            }
        }

        @Test func `a queue that is deleted under a running worker is declared and consumed again`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.broker.withConnection { try await $0.delete(queue: "jobs") }
                try await service.broker.withConnection { connection in
                    try await eventually("a consumer") {
                        await (try? connection.inspect(queue: "jobs").consumerCount) == 1
                    }
                }
                try await service.publish([ServiceFixture.job()])
                try await service.waitFor(1, in: "jobs.results")
            }
        }
    }
}
