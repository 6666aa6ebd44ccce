import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// Jobs that the broker takes out of their queue, replies that no producer reads, and the producers' exchange.
    @Suite(.timeLimit(.minutes(10)))
    struct UndeliveredTests {
        @Test(arguments: ["quorum", "classic"])
        func `a job that expires during a pause is told, once`(_ type: String) async throws {
            try await ServiceFixture.with { service in
                let more = ["SEEDREAM_QUEUE_TYPE": type]
                let workers = [try await service.startWorker(more), try await service.startWorker(more, consumers: 2)]
                #expect(try await service.run(["fleet", "pause"]).status == 0)
                try await eventually("no consumer of jobs") {
                    try await service.broker.withConnection { try await $0.inspect(queue: "jobs").consumerCount == 0 }
                }
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 20)) { _, properties in
                    properties.expiration = "100"
                    properties.headers = ["mine": .boolean(true)]
                }
                let replies = try await service.broker.take(20, from: "jobs.results")
                #expect(Set(replies.compactMap { $0.json["job_id"]?.text }).count == 20)
                #expect(replies.allSatisfy { $0.json["error"]?["code"]?.text == "expired" })
                let told = Set(replies.compactMap { $0.json["charged"]?.text })
                let charged = try #require(told.count == 1 ? told.first : nil)
                // A new ledger of classic queues may still be in doubt of what a worker before it has held.
                #expect(charged == "no" || type == "classic")
                let letters = try await service.broker.take(20, from: charged == "no" ? "jobs.dlq" : "jobs.unknown")
                for letter in letters {
                    #expect(letter.header("x-error-code") == "expired" && letter.header("x-error-charged") == charged)
                    #expect(letter.header("x-original-routing-key") == "jobs")
                    #expect(letter.header("x-original-expiration") == "100")
                    #expect(letter.properties.headers?["mine"] == .boolean(true))
                    #expect(letter.properties.headers?["x-death"] == nil)
                    #expect(letter.body == Array(ServiceFixture.job().utf8))
                }
                #expect(try await service.run(["fleet", "resume"]).status == 0)
                // Later ones go through: what expired was not submitted.
                try await service.publish([ServiceFixture.job()]) { $1.messageID = "later" }
                let later = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(later.json["status"]?.text == "submitted")
                #expect(try await service.count("accepted") == 1)
                #expect(try await service.ready("jobs.undelivered") == 0)
                for worker in workers {
                    worker.signal(SIGTERM)
                    #expect(try await worker.outcome().status == 0)
                }
            }
        }

        @Test func `an expired copy of a job that was accepted is told its task`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.publish([ServiceFixture.job()])
                let first = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(try await service.run(["fleet", "pause"]).status == 0)
                try await eventually("no consumer of jobs") {
                    try await service.broker.withConnection { try await $0.inspect(queue: "jobs").consumerCount == 0 }
                }
                try await service.publish([ServiceFixture.job()]) { $1.expiration = "100" }
                let second = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(second.json["task_id"] == first.json["task_id"])
                #expect(second.json["duplicate_of_delivery"] == .boolean(true))
                #expect(try await service.ready("jobs.dlq") == 0)
            }
        }

        @Test func `a worker that is killed while it tells of undelivered jobs leaves none untold`() async throws {
            try await ServiceFixture.with { service in
                var worker = try await service.startWorker()
                #expect(try await service.run(["fleet", "pause"]).status == 0)
                try await eventually("no consumer of jobs") {
                    try await service.broker.withConnection { try await $0.inspect(queue: "jobs").consumerCount == 0 }
                }
                let count = 300
                try await service.publish(Array(repeating: ServiceFixture.job(), count: count)) { $1.expiration = "1" }
                for told in [20, 100, 200] {
                    try await eventually("\(told) replies", within: .seconds(60)) {
                        try await service.ready("jobs.results") >= UInt32(told)
                    }
                    worker.signal(SIGKILL)
                    _ = try await worker.outcome()
                    worker = try service.launchWorker()
                }
                let replies = try await service.broker.takeReplies(ofJobs: count, from: "jobs.results")
                // One that was told before the kill may be told once more, and says the same but for the doubt.
                #expect(replies.allSatisfy { $0.json["error"]?["code"]?.text == "expired" })
                #expect(replies.count <= count + 3 * 100)
                #expect(try await service.count("requests") == 0)
            }
        }

        @Test func `results prints the replies and takes them out, or those of one job`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.publish([ServiceFixture.job(), ServiceFixture.job(), "no json"])
                try await service.waitFor(3, in: "jobs.results")
                let one = try await service.run(["results", "--job", "job-1"])
                #expect(one.status == 0, "\(one.stderr)")
                #expect(try JSONValue(parsing: one.stdout.utf8)["job_id"]?.text == "job-1")
                try await service.waitFor(2, in: "jobs.results")
                let doctor = try await service.run(["doctor"])
                #expect(doctor.stdout.contains("seedream-worker results"), "\(doctor.stdout)")
                let all = try await service.run(["results", "--format", "text"])
                #expect(
                    all.stdout.contains("job-0  submitted") && all.stdout.contains("job-2  failed     malformed_json")
                )
                #expect(try await service.ready("jobs.results") == 0)
                let follower = try Program(["results", "--follow"], environment: service.environment())
                try await eventually("its consumer") {
                    try await service.broker.withConnection {
                        try await $0.inspect(queue: "jobs.results").consumerCount == 1
                    }
                }
                try await service.publish([ServiceFixture.job()]) { $1.messageID = "late" }
                try await eventually("the reply") { follower.stdout.contains(#""job_id":"late""#) }
                follower.signal(SIGINT)
                #expect(try await follower.outcome().status == 0)
                #expect(try await service.ready("jobs.results") == 0)
            }
        }

        @Test func `jobs of a priority keep it, and go through the producers' exchange`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                let submitted = try await service.run(
                    ["submit", "-", "--priority", "9", "--no-check"],
                    stdin: "{}\n"
                )
                #expect(submitted.status == 0, "\(submitted.stderr)")
                try await service.broker.withConnection { connection in
                    let consumer = try await connection.consume(from: "jobs", prefetch: 1)
                    let job = try #require(await consumer.deliveries.first { _ in true })
                    #expect(job.properties.priority == 9)
                    #expect(job.exchange == "jobs")
                }
                _ = try await service.startWorker()
                let letter = try #require(try await service.broker.take(1, from: "jobs.dlq").first)
                #expect(letter.properties.priority == 9)
                #expect(letter.header("x-original-exchange") == "jobs")
                #expect(try await service.run(["submit", "-", "--priority", "300"], stdin: "{}").status == 64)
            }
        }

        @Test func `health asks the worker, and says what is wrong`() async throws {
            try await ServiceFixture.with { service in
                let worker = try await service.startWorker(["SEEDREAM_HTTP_LISTEN": "0.0.0.0:0"])
                let url = try await HTTPGet.healthURL(of: worker)
                let port = try #require(url.split(separator: ":").last.map(String.init))
                for listen in ["127.0.0.1:\(port)", "0.0.0.0:\(port)"] {
                    #expect(try await service.run(["health", "--listen", listen]).status == 0, "\(listen)")
                    let variable = ["SEEDREAM_HTTP_LISTEN": listen]
                    #expect(try await service.run(["health"], variable).status == 0, "\(listen)")
                }
                let sandbox = String(service.apiURL.dropFirst("http://".count))
                #expect(try await service.run(["health", "--listen", sandbox]).status == 0)
                worker.signal(SIGTERM)
                _ = try await worker.outcome()
                let gone = try await service.run(["health", "--listen", "127.0.0.1:\(port)"])
                #expect(gone.status == 1)
                #expect(gone.stderr.hasPrefix("seedream-worker: 127.0.0.1:\(port) is not alive"), "\(gone.stderr)")
                #expect(try await service.run(["health"], ["SEEDREAM_HTTP_LISTEN": "off"]).status == 1)
                #expect(try await service.run(["health", "--listen", "nowhere"]).status == 64)
            }
        }
    }
}
