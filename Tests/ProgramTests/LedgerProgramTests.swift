import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// Replicas that share a ledger: what one has submitted the others know, whatever happens to it.
    @Suite(.timeLimit(.minutes(10)))
    struct LedgerProgramTests {
        /// A submission lasts at most 4 seconds; after 7 without its replica it is given up.
        private static let brisk = [
            "SEEDREAM_API_TIMEOUT": "3s", "SEEDREAM_API_CONNECT_TIMEOUT": "1s", "SEEDREAM_AMQP_HEARTBEAT": "1s",
            "SEEDREAM_RETRY_DELAYS": "200ms,1s",
        ]

        private static func brisk(_ more: [String: String]) -> [String: String] { brisk.merging(more) { $1 } }

        private static func publish(_ count: Int, _ service: ServiceFixture, from first: Int = 0) async throws {
            try await service.publish(Array(repeating: ServiceFixture.job(), count: count)) {
                $1.messageID = ByteString("job-\(first + $0)")
            }
        }

        /// The environment of a worker whose connections go through a proxy.
        private static func through(_ proxy: FaultProxy, _ service: ServiceFixture) -> [String: String] {
            ["SEEDREAM_AMQP_URL": "amqp://guest:guest@127.0.0.1:\(proxy.port)/\(service.broker.virtualHost)"]
        }

        @Test func `20 kills among three replicas lose no job and pay for none twice`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "100ms"]) { service in
                let concurrency = 10
                let settings = Self.brisk(["SEEDREAM_WORKER_CONCURRENCY": "\(concurrency)"])
                var workers: [Program] = []
                for number in 1...3 { workers.append(try await service.startWorker(settings, consumers: number)) }
                try await Self.publish(3000, service)
                for kill in 0..<20 {
                    let accepted = try await service.count("accepted")
                    try await eventually("work goes on") {
                        let now = try await service.count("accepted")
                        return now > accepted + 60 || now > 2800
                    }
                    workers[kill % 3].signal(SIGKILL)
                    workers[kill % 3] = try service.launchWorker(settings)
                }
                let replies = try await service.broker.takeReplies(ofJobs: 3000, from: "jobs.results")
                let byJob = Dictionary(grouping: replies) { $0.json["job_id"]?.text ?? "" }
                let taskIDs = byJob.mapValues { Set($0.compactMap { $0.json["task_id"]?.text }) }
                #expect(taskIDs.values.allSatisfy { $0.count <= 1 })
                let unknown = taskIDs.values.count { $0.isEmpty }
                #expect(unknown <= 20 * concurrency, "\(unknown) unknown")
                let accepted = try await service.count("accepted")
                #expect(accepted >= Int64(3000 - unknown) && accepted <= 3000, "\(accepted) accepted")
                #expect(try await service.count("duplicates") == 0)
                #expect(try await service.ready("jobs.dlq") == 0)
            }
        }

        @Test func `the same id in two replicas at once is submitted once, and both are answered`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "200ms"]) { service in
                for number in 1...2 { _ = try await service.startWorker(Self.brisk, consumers: number) }
                for _ in 0..<2 { try await Self.publish(100, service) }
                let replies = try await service.broker.take(200, from: "jobs.results")
                let byJob = Dictionary(grouping: replies) { $0.json["job_id"]?.text ?? "" }
                #expect(byJob.values.allSatisfy { Set($0.compactMap { $0.json["task_id"]?.text }).count == 1 })
                #expect(byJob.values.allSatisfy { $0.count == 2 })
                #expect(try await service.count("requests") == 100)
            }
        }

        @Test(.serialized, arguments: ["cut off", "frozen"])
        func `of a replica that is out of reach while it submits, the other waits for the task ids`(_ how: String)
            async throws
        {
            try await ServiceFixture.with(sandbox: ["--latency", "6s"]) { service in
                let proxy = try await FaultProxy(target: Int(service.broker.url.port))
                let settings = Self.brisk(["SEEDREAM_API_TIMEOUT": "20s", "SEEDREAM_WORKER_CONCURRENCY": "10"])
                let first = try await service.startWorker(settings.merging(Self.through(proxy, service)) { $1 })
                try await Self.publish(10, service)
                try await eventually("all are under way") { try await service.count("requests") == 10 }
                if how == "frozen" { first.signal(SIGSTOP) } else { proxy.silence(true) }
                let second = try await service.startWorker(settings)
                try await second.waitForStderr("returned")
                if how == "frozen" {
                    try await eventually("its answers are there") { try await service.count("accepted") == 10 }
                    first.signal(SIGCONT)
                } else {
                    try await eventually("its answers are there") { try await service.count("accepted") == 10 }
                    proxy.silence(false)
                }
                let replies = try await service.broker.takeReplies(ofJobs: 10, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" }, "\(replies.map(\.json))")
                #expect(try await service.count("requests") == 10)
                try await service.waitFor(0, in: "jobs.retry.200ms")
                #expect(try await service.ready("jobs.unknown") == 0)
                try await proxy.close()
            }
        }

        @Test func `what a killed replica was submitting is unknown, and once`() async throws {
            let server = try await ScriptedServer { _, _ in .hang }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                let first = try await service.startWorker(Self.brisk)
                try await Self.publish(5, service)
                try await eventually("all are under way") { server.requests.count == 5 }
                first.signal(SIGKILL)
                _ = try await service.startWorker(Self.brisk)
                let replies = try await service.broker.takeReplies(ofJobs: 5, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["error"]?["code"]?.text == "outcome_unknown" })
                #expect(server.requests.count == 5)
                let history = try await service.run(["history", "--format", "json"])
                #expect(history.stdout.contains(#""unknown":5"#), "\(history.stdout)")
            }
        }

        @Test func `what a killed replica had not submitted yet is submitted by the next`() async throws {
            try await ServiceFixture.with { service in
                // One start in 10 s: the rest waits in the worker.
                let first = try await service.startWorker(Self.brisk(["SEEDREAM_WORKER_RATE_LIMIT": "1/10s"]))
                try await Self.publish(2, service)
                try await eventually("one is submitted") { try await service.count("accepted") == 1 }
                try await service.waitFor(0, in: "jobs")
                first.signal(SIGKILL)
                _ = try await service.startWorker(Self.brisk)
                let replies = try await service.broker.takeReplies(ofJobs: 2, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" }, "\(replies.map(\.json))")
                #expect(try await service.count("requests") == 2)
            }
        }

        @Test func `a ledger that is deleted is made again, with what is under way`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "40s"]) { service in
                let settings = Self.brisk(["SEEDREAM_API_TIMEOUT": "60s", "SEEDREAM_WORKER_CONCURRENCY": "10"])
                _ = try await service.startWorker(settings)
                try await Self.publish(10, service)
                try await eventually("all are under way") { try await service.count("requests") == 10 }
                try await service.broker.withConnection { try await $0.delete(queue: "jobs.ledger") }
                // The same jobs once more: the new ledger has to know them.
                _ = try await service.startWorker(settings, consumers: 2)
                try await eventually("the ledger is there again") {
                    try await service.broker.withConnection { (try? await $0.inspect(queue: "jobs.ledger")) != nil }
                }
                let written = try await service.run(["history", "--format", "json"])
                #expect(written.stdout.contains(#""running":10"#), "\(written.stdout)")
                try await Self.publish(10, service)
                let replies = try await service.broker.take(20, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" }, "\(replies.map(\.json))")
                #expect(try await service.count("requests") == 10)
            }
        }

        @Test func `a ledger that cannot be written closes the gate, and nothing is submitted`() async throws {
            try await ServiceFixture.with { service in
                let worker = try service.launchWorker(Self.brisk(["SEEDREAM_HTTP_LISTEN": "127.0.0.1:0"]))
                let url = try await HTTPGet.healthURL(of: worker)
                try await eventually("ready") { try await HTTPGet(url + "/readyz").status == 200 }
                // A queue in its place refuses to be read as a stream.
                try await service.broker.withConnection { connection in
                    try await connection.delete(queue: "jobs.ledger")
                    _ = try await connection.declare(
                        QueueDeclaration(
                            name: "jobs.ledger",
                            arguments: ["x-queue-type": .text("quorum"), "x-max-length": .int32(0)]
                        )
                    )
                }
                try await Self.publish(5, service)
                try await eventually("not ready", within: .seconds(60)) {
                    let answer = try await HTTPGet(url + "/readyz")
                    return answer.status == 503 && answer.text.contains("ledger")
                }
                #expect(try await service.count("requests") == 0)
                try await service.broker.withConnection { try await $0.delete(queue: "jobs.ledger") }
                let replies = try await service.broker.takeReplies(ofJobs: 5, from: "jobs.results")
                // What has waited in the worker for ten seconds went back, and comes again to a ledger that has begun anew.
                let inDoubt = try await service.expectSubmittedOrInDoubt(replies, jobs: 5)
                #expect(try await service.count("requests") == Int64(5 - inDoubt))
            }
        }

        @Test func `history tells what was submitted, and nothing of its content`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.publish([ServiceFixture.job("make it blue", #","max_images":4"#), "{}"])
                _ = try await service.broker.take(2, from: "jobs.results")
                let text = try await service.run(["history", "--price", "0.025"])
                #expect(text.status == 0, "\(text.stderr)")
                #expect(text.stdout.contains("job-0"))
                let totals = "1 submitted, 4 images, 0 refused, 0 unknown, about 0.10"
                #expect(text.stdout.contains(totals), "\(text.stdout)")
                #expect(!(text.stdout + text.stderr).contains("make it blue"))
                let lines = try await service.run(["history", "--job", "job-0", "--since", "1h", "--format", "json"])
                    .stdout.split(separator: "\n").map { try JSONValue(parsing: $0.utf8) }
                #expect(lines.count == 2)
                #expect(lines.first?["charged"]?.text == "yes")
                #expect(lines.first?["task_id"]?.text != nil)
                #expect(lines.last?["totals"]?["images"]?.exactInteger == 4)
                let records = try await service.broker.withConnection { connection in
                    let consumer = try await connection.consume(
                        from: "jobs.ledger",
                        prefetch: 100,
                        arguments: StreamOffset.first.arguments
                    )
                    var deliveries = consumer.deliveries.makeAsyncIterator()
                    var text = ""
                    while !text.contains(#""verdict":"accepted""#), let delivery = await deliveries.next() {
                        text += String(decoding: delivery.body, as: UTF8.self)
                        _ = delivery.acknowledge()
                    }
                    return text
                }
                #expect(!records.contains("make it blue") && !records.contains("example.com"))
                #expect(!records.contains(ServiceFixture.token))
            }
        }

        @Test func `without a ledger history says what to do`() async throws {
            try await TestBroker.withVirtualHost { broker in
                let outcome = try await Program.run(["history", "--amqp-url", broker.urlText])
                #expect(outcome.status == 69)
                #expect(outcome.stderr.contains("journal.store=ledger"), "\(outcome.stderr)")
            }
        }

        @Test func `a worker says how much of a long ledger it has read, and takes no job before`() async throws {
            try await ServiceFixture.with { service in
                let first = try await service.startWorker(["SEEDREAM_WORKER_CONCURRENCY": "200"])
                try await Self.publish(3000, service)
                _ = try await service.broker.take(3000, from: "jobs.results")
                first.signal(SIGTERM)
                #expect(try await first.outcome().status == 0)
                let second = try service.launchWorker(["SEEDREAM_HTTP_LISTEN": "127.0.0.1:0"])
                let url = try await HTTPGet.healthURL(of: second)
                try await eventually("ready") {
                    let answer = try await HTTPGet(url + "/readyz")
                    if answer.missing.contains("ledger") {
                        #expect(answer.text.firstMatch(of: /ledger: \d+ %/) != nil, "\(answer.text)")
                    }
                    return answer.status == 200
                }
                // Every job once more: all are known.
                try await Self.publish(3000, service)
                let replies = try await service.broker.take(3000, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["duplicate_of_delivery"] == .boolean(true) })
                #expect(try await service.count("requests") == 3000)
            }
        }
    }
}
