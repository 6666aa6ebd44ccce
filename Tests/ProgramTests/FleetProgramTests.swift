import Foundation
import JSON
import NIOConcurrencyHelpers
import NIOPosix
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// Replicas as one: a shared rate, budget, gate and pause.
    @Suite(.timeLimit(.minutes(10)))
    struct FleetProgramTests {
        private static let accepted = ScriptedServer.answer(200, #"{"task_id":"t"}"#)
        private static let brisk = [
            "SEEDREAM_API_TIMEOUT": "3s", "SEEDREAM_API_CONNECT_TIMEOUT": "1s", "SEEDREAM_RETRY_DELAYS": "200ms,1s",
            "SEEDREAM_GATE_MAX_DELAY": "2s",
        ]

        private static func brisk(_ more: [String: String]) -> [String: String] { brisk.merging(more) { $1 } }

        private static func publish(_ count: Int, _ service: ServiceFixture, _ more: String = "") async throws {
            try await service.publish(Array(repeating: ServiceFixture.job("make it blue", more), count: count)) {
                $1.messageID = ByteString("job-\($0)-\(more.count)")
            }
        }

        /// When the API saw each request.
        private final class Arrivals: Sendable {
            private let moments = NIOLockedValueBox<[ContinuousClock.Instant]>([])

            func note() { moments.withLockedValue { $0.append(.now) } }
            var count: Int { moments.withLockedValue { $0.count } }

            /// From the first to that one.
            func time(of number: Int) -> Duration {
                let moments = moments.withLockedValue { $0.sorted() }
                return moments.count < number ? .seconds(3600) : moments[number - 1] - moments[0]
            }

            /// The most within any window of a length.
            func most(within window: Duration) -> Int {
                let moments = moments.withLockedValue { $0.sorted() }
                var (most, first) = (0, 0)
                for last in moments.indices {
                    while moments[last] - moments[first] >= window { first += 1 }
                    most = max(most, last - first + 1)
                }
                return most
            }
        }

        @Test func `four replicas keep one rate limit, whoever is killed or comes`() async throws {
            let arrivals = Arrivals()
            // A thread of its own notes when they come, whatever the others do.
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            let server = try await ScriptedServer(group: group) { _, _ in
                arrivals.note()
                return .send(Self.accepted)
            }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                let settings = Self.brisk(["SEEDREAM_FLEET_RATE_LIMIT": "20/5s"])
                var workers: [Program] = []
                for number in 1...4 { workers.append(try await service.startWorker(settings, consumers: number)) }
                try await Self.publish(160, service)
                try await eventually("a third", within: .seconds(60)) { arrivals.count > 50 }
                workers[0].signal(SIGKILL)
                _ = try service.launchWorker(settings)
                let replies = try await service.broker.takeReplies(ofJobs: 160, from: "jobs.results")
                #expect(replies.count { $0.json["status"]?.text == "submitted" } >= 150)
                // Half a second for what a busy machine keeps between a start and its arrival.
                #expect(arrivals.most(within: .seconds(4.5)) <= 20)
                // 140 need 32 s after the first 20; those of the killed one are lost, and perhaps a period on a busy machine.
                let elapsed = arrivals.time(of: 140)
                #expect(try await elapsed < paced(.seconds(45)), "\(elapsed)")
                let status = try await service.run(["fleet"])
                #expect(status.stdout.contains("of 20/5s used"), "\(status.stdout)")
            }
        }

        @Test func `a budget is one for all, and a definite no gives its images back`() async throws {
            let refused = NIOLockedValueBox(0)
            let arrivals = Arrivals()
            let server = try await ScriptedServer { index, _ in
                arrivals.note()
                guard index % 3 == 0 else { return .send(Self.accepted) }
                refused.withLockedValue { $0 += 1 }
                return .send(ScriptedServer.answer(422, "{}"))
            }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                let settings = Self.brisk([
                    "SEEDREAM_FLEET_BUDGET": "20/1h", "SEEDREAM_HTTP_LISTEN": "127.0.0.1:0",
                    "SEEDREAM_WORKER_CONCURRENCY": "4",
                ])
                let worker = try await service.startWorker(settings)
                _ = try await service.startWorker(settings, consumers: 2)
                try await Self.publish(40, service, #","max_images":2"#)
                let url = try await HTTPGet.healthURL(of: worker)
                try await eventually("the budget is used up", within: .seconds(60)) {
                    let answer = try await HTTPGet(url + "/readyz")
                    return answer.text.contains(#""reason":"budget""#)
                        && arrivals.count - refused.withLockedValue({ $0 }) == 10
                }
                // Probes ask the ledger, and not the API.
                let before = arrivals.count
                try await eventually("the gate has tried again") {
                    let closures = try await Metrics(url).byLabel("seedream_ledger_records_total", "kind")["begin"] ?? 0
                    return closures >= Double(before)
                }
                #expect(arrivals.count - refused.withLockedValue({ $0 }) == 10)
                try await eventually("the metric") {
                    try await Metrics(url).value("seedream_fleet_budget_images_remaining") != nil
                }
                #expect(try await service.ready("jobs.unknown") == 0)
            }
        }

        @Test func `an account without credit costs one request per pause of the fleet`() async throws {
            let arrivals = Arrivals()
            let isPaid = NIOLockedValueBox(false)
            let server = try await ScriptedServer { _, _ in
                arrivals.note()
                return .send(isPaid.withLockedValue { $0 } ? Self.accepted : ScriptedServer.answer(402, "{}"))
            }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                let settings = Self.brisk([
                    "SEEDREAM_GATE_MIN_DELAY": "2s", "SEEDREAM_WORKER_CONCURRENCY": "2",
                    "SEEDREAM_HTTP_LISTEN": "127.0.0.1:0",
                ])
                var workers: [Program] = []
                for number in 1...4 { workers.append(try await service.startWorker(settings, consumers: number)) }
                try await Self.publish(50, service)
                for worker in workers {
                    let url = try await HTTPGet.healthURL(of: worker)
                    try await eventually("closed everywhere") {
                        try await HTTPGet(url + "/readyz").text.contains(#""reason":"credits""#)
                    }
                }
                let before = arrivals.count
                let start = ContinuousClock.now
                try await eventually("four pauses", within: .seconds(60)) { arrivals.count >= before + 4 }
                // Each pause has 2 s.
                let pauses = (ContinuousClock.now - start) / .seconds(2)
                #expect(Double(arrivals.count - before) <= 2 * pauses + 2, "\(arrivals.count - before) in \(pauses)")
                #expect(pauses > 1.5)
                isPaid.withLockedValue { $0 = true }
                let replies = try await service.broker.takeReplies(ofJobs: 50, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" })
            }
        }

        @Test func `a pause holds for all within two seconds, and for those that come later`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "50ms"]) { service in
                let settings = Self.brisk(["SEEDREAM_WORKER_CONCURRENCY": "2"])
                for number in 1...2 { _ = try await service.startWorker(settings, consumers: number) }
                try await Self.publish(2000, service)
                try await eventually("work goes on") { try await service.count("accepted") > 50 }
                let paused = try await service.run(["fleet", "pause", "--reason", "price change"])
                #expect(paused.status == 0, "\(paused.stderr)")
                let start = ContinuousClock.now
                let last = NIOLockedValueBox((count: Int64(-1), at: start))
                try await eventually("nothing starts any more") {
                    let count = try await service.count("requests")
                    return last.withLockedValue { last in
                        if count != last.count { last = (count, .now) }
                        return ContinuousClock.now - last.at > .seconds(1)
                    }
                }
                let lasted = last.withLockedValue { $0.at } - start
                #expect(try await lasted < paced(.seconds(2)))
                let later = try service.launchWorker(Self.brisk(["SEEDREAM_HTTP_LISTEN": "127.0.0.1:0"]))
                let url = try await HTTPGet.healthURL(of: later)
                try await eventually("the third is paused too") {
                    try await HTTPGet(url + "/readyz").text.contains(#""reason":"paused""#)
                }
                let requests = try await service.count("requests")
                let status = try await service.run(["fleet", "status", "--format", "json"])
                let json = try JSONValue(parsing: status.stdout.utf8)
                #expect(json["paused"] == .boolean(true) && json["reason"]?.text == "price change", "\(status.stdout)")
                #expect(json["replicas"]?.elements.count == 3, "\(status.stdout)")
                let table = try await service.run(["fleet"])
                #expect(table.stdout.contains("paused: price change"), "\(table.stdout)")
                #expect(try await service.count("requests") == requests)
                #expect(try await service.run(["fleet", "resume"]).status == 0)
                let replies = try await service.broker.takeReplies(ofJobs: 2000, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" })
                #expect(try await service.count("duplicates") == 0)
            }
        }

        @Test func `an order of a user that does not count is refused, and has its effect once it does`() async throws {
            try await ServiceFixture.with(sandbox: []) { service in
                try await service.broker.withUser { user, operators in
                    let url = ["SEEDREAM_AMQP_URL": operators.urlText]
                    let first = try await service.startWorker(Self.brisk([:]), consumers: 1)
                    let refused = try await service.run(["fleet", "pause"], url)
                    #expect(refused.status == 1 && refused.stderr.contains("journal.writers"), "\(refused)")
                    #expect(refused.stderr.contains(user))
                    first.signal(SIGTERM)
                    _ = try await first.outcome()
                    let settings = Self.brisk([
                        "SEEDREAM_JOURNAL_WRITERS": "u-*", "SEEDREAM_HTTP_LISTEN": "127.0.0.1:0",
                    ])
                    let second = try await service.startWorker(settings, consumers: 1)
                    let paused = try await service.run(["fleet", "pause"], url)
                    #expect(paused.status == 0, "\(paused.stderr)")
                    let health = try await HTTPGet.healthURL(of: second)
                    try await eventually("it pauses") {
                        try await HTTPGet(health + "/readyz").text.contains(#""reason":"paused""#)
                    }
                    let found = try await service.run(["doctor"])
                    let said = "do not count for guest have written to jobs.ledger: \(user)"
                    #expect(found.stdout.contains(said), "\(found.stdout)")
                }
            }
        }
    }
}
