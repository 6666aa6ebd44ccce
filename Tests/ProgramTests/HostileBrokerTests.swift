import Foundation
import JSON
import NIOConcurrencyHelpers
import NIOCore
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// A broker, or a network before it, that does its worst to a running worker.
    @Suite(.timeLimit(.minutes(10)))
    struct HostileBrokerTests {
        private static func publish(_ count: Int, _ service: ServiceFixture) async throws {
            try await service.publish(Array(repeating: ServiceFixture.job(), count: count))
        }

        /// Waits until a worker has declared the queues.
        private static func waitForQueues(_ service: ServiceFixture) async throws {
            try await service.broker.withConnection { connection in
                try await eventually("the queues") { (try? await connection.inspect(queue: "jobs.retry.10m")) != nil }
            }
        }

        @Test func `a network that cuts, silences, delays and fragments costs no job and no money`() async throws {
            let seed = UInt64.random(in: .min ... .max)
            try await ServiceFixture.with(sandbox: ["--latency", "20ms"]) { service in
                let proxy = try await FaultProxy(target: Int(service.broker.url.port))
                let worker = try service.launchWorker([
                    "SEEDREAM_AMQP_URL": "amqp://guest:guest@127.0.0.1:\(proxy.port)/\(service.broker.virtualHost)",
                    "SEEDREAM_AMQP_HEARTBEAT": "1s", "SEEDREAM_HTTP_LISTEN": "127.0.0.1:0",
                ])
                let url = try await HTTPGet.healthURL(of: worker)
                try await Self.waitForQueues(service)
                let before = try await Metrics(url)
                let dice = Dice(seed: seed)
                // Each costs some seconds, and how many come before the last job depends on the machine.
                let ends = Countdown(from: 15)
                proxy.misbehave {
                    switch dice.roll(1000) {
                    case 0..<3: ends.take() ? .cut : .none
                    case 3: ends.take() ? .blackhole : .none
                    case 4..<30: .delay(.milliseconds(Int64(dice.roll(50))))
                    case 30..<50: .fragment
                    default: .none
                    }
                }
                try await Self.publish(5000, service)
                let replies = try await service.broker.takeReplies(ofJobs: 5000, from: "jobs.results")
                try await service.expectSubmittedOrInDoubt(replies, jobs: 5000, "seed \(seed)")
                #expect(proxy.connections > 4)
                proxy.misbehave { .none }
                try await eventually("all is acknowledged", within: .seconds(60)) {
                    let metrics = try await Metrics(url)
                    return metrics.value("seedream_jobs_in_flight") == 0
                        && metrics.sum("seedream_amqp_connected") == 3
                }
                let after = try await Metrics(url)
                #expect(after.sum("seedream_amqp_reconnects_total") > 2)
                // Connections to the API may be kept, one a place in flight; those to the broker may not pile up.
                let descriptors = (after.value("process_open_fds") ?? 0) - (before.value("process_open_fds") ?? 0)
                #expect(descriptors <= 60, "\(descriptors) descriptors more")
                let memory = after.value("process_resident_memory_bytes") ?? 0
                #expect(memory < 150_000_000)
                worker.signal(SIGTERM)
                #expect(try await worker.outcome().status == 0)
                #expect(try await service.ready("jobs") == 0)
                try await proxy.close()
            }
        }

        @Test func `a network that goes silent is found within three heartbeats`() async throws {
            try await ServiceFixture.with { service in
                let proxy = try await FaultProxy(target: Int(service.broker.url.port))
                let worker = try service.launchWorker([
                    "SEEDREAM_AMQP_URL": "amqp://guest:guest@127.0.0.1:\(proxy.port)/\(service.broker.virtualHost)",
                    "SEEDREAM_AMQP_HEARTBEAT": "2s", "SEEDREAM_HTTP_LISTEN": "127.0.0.1:0",
                ])
                let url = try await HTTPGet.healthURL(of: worker)
                try await eventually("ready") { try await HTTPGet(url + "/readyz").status == 200 }
                proxy.silence(true)
                let start = ContinuousClock.now
                try await eventually("all are lost") {
                    try await Metrics(url).sum("seedream_amqp_connected") == 0
                }
                let elapsed = start.duration(to: .now)
                #expect(try await elapsed < paced(.seconds(7)))
                #expect(try await HTTPGet(url + "/readyz").status == 503)
                try await worker.waitForStderr("heartbeat_lost")
                proxy.silence(false)
                // A login into the silence has its own deadline.
                try await eventually("ready again", within: .seconds(60)) {
                    try await HTTPGet(url + "/readyz").status == 200
                }
                try await proxy.close()
            }
        }

        @Test func `a broker that is down at the start is waited for, and told of once`() async throws {
            try await ServiceFixture.with { service in
                let proxy = try await FaultProxy(target: Int(service.broker.url.port))
                proxy.refuse(true)
                let worker = try service.launchWorker([
                    "SEEDREAM_AMQP_URL": "amqp://guest:guest@127.0.0.1:\(proxy.port)/\(service.broker.virtualHost)"
                ])
                try await eventually("ten attempts", within: .seconds(60)) { proxy.connections >= 10 }
                let warnings = worker.stderr.split(separator: "\n")
                    .filter { $0.contains("no connection to the broker") }
                // One line for each of the three connections, and one more where the cause has changed.
                #expect((3...6).contains(warnings.count), "\(warnings)")
                proxy.refuse(false)
                try await worker.waitForStderr("consuming")
                try await proxy.close()
            }
        }

        @Test func `a wrong password and a missing virtual host are named, and mended without a restart`() async throws
        {
            try await ServiceFixture.with { service in
                let user = "u-\(UUID().uuidString)"
                let body = #"{"password":"right","tags":""}"#
                try await TestBroker.management("PUT", "/api/users/\(user)", body: body)
                let worker = try service.launchWorker([
                    "SEEDREAM_AMQP_URL":
                        "amqp://\(user):wrong@127.0.0.1:\(service.broker.url.port)/\(service.broker.virtualHost)"
                ])
                try await worker.waitForStderr("authentication_refused")
                // The right password, and no permission yet.
                try await TestBroker.management(
                    "PUT",
                    "/api/users/\(user)",
                    body: #"{"password":"wrong","tags":""}"#
                )
                try await worker.waitForStderr("access_refused", within: .seconds(60))
                let all = #"{"configure":".*","write":".*","read":".*"}"#
                let permissions = "/api/permissions/\(service.broker.virtualHost)/\(user)"
                try await TestBroker.management("PUT", permissions, body: all)
                try await worker.waitForStderr("consuming", within: .seconds(60))
                #expect(!worker.stderr.contains("wrong@"))
                // A user who may no longer read: the consumer is told by name.
                let none = #"{"configure":".*","write":".*","read":""}"#
                try await TestBroker.management("PUT", permissions, body: none)
                try await service.broker.withConnection { try await $0.delete(queue: "jobs") }
                try await worker.waitForStderr("cannot consume", within: .seconds(60))
                try await TestBroker.management("PUT", permissions, body: all)
                try await service.broker.withConnection { connection in
                    try await eventually("a consumer", within: .seconds(60)) {
                        await (try? connection.inspect(queue: "jobs").consumerCount) == 1
                    }
                }
                let missing = try service.launchWorker([
                    "SEEDREAM_AMQP_URL": "amqp://guest:guest@127.0.0.1:\(service.broker.url.port)/no-such-vhost"
                ])
                try await missing.waitForStderr("no-such-vhost")
                try await missing.waitForStderr("access_refused")
                try await TestBroker.management("DELETE", "/api/users/\(user)")
            }
        }

        @Test func `a queue that an operator deletes and makes again is consumed again within 10 s`() async throws {
            try await ServiceFixture.with { service in
                #expect(try await service.run(["topology", "declare"]).status == 0)
                let worker = try await service.startWorker(["SEEDREAM_QUEUE_TOPOLOGY": "verify"])
                try await service.broker.withConnection { try await $0.delete(queue: "jobs") }
                try await worker.waitForStderr("no queue 'jobs'")
                #expect(try await service.run(["topology", "declare"]).status == 0)
                try await service.broker.withConnection { connection in
                    try await eventually("a consumer") {
                        await (try? connection.inspect(queue: "jobs").consumerCount) == 1
                    }
                }
                try await Self.publish(10, service)
                try await service.waitFor(10, in: "jobs.results")
            }
        }

        @Test func `a drain of 100 jobs in flight takes no longer than the API`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "15s"]) { service in
                let worker = try await service.startWorker(["SEEDREAM_WORKER_CONCURRENCY": "100"])
                try await Self.publish(100, service)
                try await eventually("100 in flight") { try await service.count("in_flight") == 100 }
                let start = ContinuousClock.now
                worker.signal(SIGTERM)
                #expect(try await worker.outcome().status == 0)
                let elapsed = start.duration(to: .now)
                #expect(try await elapsed < paced(.seconds(18)))
                #expect(try await service.ready("jobs.results") == 100)
                #expect(try await service.ready("jobs") == 0)
            }
        }

        @Test func `jobs that the drain deadline leaves are back on the queue`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "20s"]) { service in
                let worker = try await service.startWorker([
                    "SEEDREAM_WORKER_CONCURRENCY": "100", "SEEDREAM_WORKER_DRAIN_TIMEOUT": "1s",
                ])
                try await Self.publish(100, service)
                try await eventually("100 in flight") { try await service.count("in_flight") == 100 }
                let start = ContinuousClock.now
                worker.signal(SIGTERM)
                #expect(try await worker.outcome().status == 75)
                let elapsed = start.duration(to: .now)
                #expect(try await elapsed < paced(.seconds(3)))
                try await service.waitFor(100, in: "jobs")
            }
        }
    }
}

/// Random numbers for several threads, from a seed.
private final class Dice: Sendable {
    private let generator: NIOLockedValueBox<SeededGenerator>

    init(seed: UInt64) { generator = NIOLockedValueBox(SeededGenerator(seed: seed)) }

    func roll(_ sides: Int) -> Int { generator.withLockedValue { Int.random(in: 0..<sides, using: &$0) } }
}

/// Something of which there are so many.
private final class Countdown: Sendable {
    private let left: NIOLockedValueBox<Int>

    init(from count: Int) { left = NIOLockedValueBox(count) }

    /// False when none is left.
    func take() -> Bool {
        left.withLockedValue { left in
            defer { left = max(0, left - 1) }
            return left > 0
        }
    }
}
