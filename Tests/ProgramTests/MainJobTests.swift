import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// The main job, end to end.
    @Suite(.timeLimit(.minutes(10)))
    struct MainJobTests {
        @Test func `5000 jobs have 5000 replies, and each is submitted once`() async throws {
            try await ServiceFixture.with { service in
                let worker = try await service.startWorker(["SEEDREAM_WORKER_CONCURRENCY": "200"])
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 5000)) { index, properties in
                    properties.correlationID = ByteString("c-\(index)")
                }
                let replies = try await service.broker.take(5000, from: "jobs.results")
                #expect(Set(replies.compactMap(\.properties.correlationID)).count == 5000)
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" })
                #expect(Set(replies.compactMap { $0.json["task_id"]?.text }).count == 5000)
                worker.signal(SIGTERM)
                #expect(try await worker.outcome().status == 0)
                // With the worker gone, whatever was unacknowledged would be ready again.
                #expect(try await service.ready("jobs") == 0)
                #expect(try await service.count("accepted") == 5000)
                #expect(try await service.count("duplicates") == 0)
            }
        }

        @Test func `no number in a job's properties ends the worker`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                let timestamps: [UInt64] = [
                    9_223_372_036_854_776, 9_223_372_036_854_775_807, .max, 18_446_744_073_709_551, 0,
                    1_700_000_000_000,
                ]
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 30)) { index, properties in
                    properties.timestamp = timestamps[index % timestamps.count]
                    properties.headers = [
                        "x-attempts": .int64(index % 2 == 0 ? .max : .min), "x-replay-count": .int64(.max),
                        "x-headers-dropped": .int64(.min),
                    ]
                }
                let replies = try await service.broker.take(30, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" })
                #expect(Set(replies.compactMap { $0.json["job_id"]?.text }).count == 30)
                try await service.waitFor(0, in: "jobs")
            }
        }

        @Test func `300 slow jobs are in flight at once, in little memory`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "2s"]) { service in
                let worker = try await service.startWorker(["SEEDREAM_WORKER_CONCURRENCY": "300"])
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 600))
                try await service.waitFor(600, in: "jobs.results")
                #expect(try await service.count("peak_in_flight") == 300)
                let status = try String(contentsOfFile: "/proc/\(worker.pid)/status", encoding: .utf8)
                let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
                let kibibytes = try #require(Int(line.filter(\.isNumber)))
                #expect(kibibytes < 80 * 1024, "resident: \(kibibytes) KiB")
            }
        }

        @Test func `a reply has all that the contract says`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.broker.withConnection { _ = try await $0.declare(QueueDeclaration(name: "back")) }
                try await service.publish([ServiceFixture.job()]) { _, properties in
                    properties.replyTo = "back"
                    properties.headers = [
                        "traceparent": .text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
                    ]
                }
                let reply = try #require(try await service.broker.take(1, from: "back").first)
                #expect(reply.properties.contentType == "application/json")
                #expect(reply.properties.type == "seedream.edit.result")
                #expect(reply.properties.appID == "seedream-worker")
                #expect(reply.properties.deliveryMode == 2)
                #expect(reply.properties.correlationID == "job-0")
                #expect(reply.properties.messageID != nil && reply.properties.messageID != "job-0")
                #expect(reply.properties.timestamp != nil)
                #expect(reply.header("x-job-id") == "job-0")
                #expect(reply.header("traceparent") == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
                #expect(reply.json["job_id"]?.text == "job-0")
                #expect(reply.json["status"]?.text == "submitted")
                #expect(reply.json["attempts"] == .integer(1))
            }
        }

        @Test func `each job leaves one line in the log when it ends`() async throws {
            try await ServiceFixture.with { service in
                let worker = try await service.startWorker(["SEEDREAM_LOG_FORMAT": "json"])
                let trace = "0af7651916cd43dd8448eb211c80319c"
                try await service.publish([ServiceFixture.job(), "no json"]) { _, properties in
                    properties.headers = ["traceparent": .text("00-\(trace)-b7ad6b7169203331-01")]
                }
                let replies = try await service.broker.take(2, from: "jobs.results")
                worker.signal(SIGTERM)
                let stderr = try await worker.outcome().stderr
                let lines = try stderr.split(separator: "\n").map { try JSONValue(parsing: $0.utf8) }
                    .filter { $0["message"]?.text == "a job was settled" }
                #expect(lines.count == 2)
                let paid = try #require(lines.first { $0["job_id"]?.text == "job-0" })
                #expect(paid["level"]?.text == "info" && paid["result"]?.text == "submitted")
                #expect(paid["task_id"] == replies.first { $0.json["job_id"]?.text == "job-0" }?.json["task_id"])
                #expect(paid["attempts"] == .integer(1) && paid["trace_id"]?.text == trace)
                #expect(paid["duration_ms"]?.exactInteger.map { $0 >= 0 } == true)
                let failed = try #require(lines.first { $0["job_id"]?.text == "job-1" })
                #expect(failed["code"]?.text == "malformed_json" && failed["attempts"] == .integer(0))
            }
        }

        @Test func `a bad job is a reply and a dead letter that carries it byte for byte`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                let bodies = [
                    "{ \"prompt\" : 5 }", "no json",
                    #"{"image_urls":[],"prompt":"\#(String(repeating: "x", count: 300_000))"}"#,
                ]
                try await service.publish(bodies) { index, properties in
                    properties.headers = ["mine": .int32(Int32(index))]
                }
                let replies = try await service.broker.take(3, from: "jobs.results")
                let letters = try await service.broker.take(3, from: "jobs.dlq")
                let codes = Dictionary(
                    uniqueKeysWithValues: letters.map { ($0.header("x-job-id"), $0.header("x-error-code")) }
                )
                // The broker itself has put the one there that is too large to be copied.
                #expect(codes == ["job-0": "invalid_job", "job-1": "malformed_json", nil: nil])
                #expect(Set(letters.map { String(decoding: $0.body, as: UTF8.self) }) == Set(bodies))
                let told = Set(replies.compactMap { $0.json["error"]?["code"]?.text })
                #expect(told == ["invalid_job", "malformed_json", "message_too_large"])
                #expect(replies.allSatisfy { $0.json["charged"]?.text == "no" && $0.json["attempts"] == .integer(0) })
                for letter in letters where letter.header("x-job-id") != nil {
                    #expect(letter.properties.headers?["mine"] != nil)
                    for name: ByteString in [
                        "x-error-message", "x-failed-at", "x-first-received-at", "x-worker", "x-worker-version",
                        "x-original-routing-key",
                    ] { #expect(letter.header(name)?.isEmpty == false, "\(name)") }
                    #expect(letter.header("x-error-charged") == "no")
                    #expect(letter.properties.headers?["x-attempts"]?.integer == 0)
                }
                let invalid = try #require(letters.first { $0.header("x-error-code") == "invalid_job" })
                let violations = try JSONValue(parsing: try #require(invalid.header("x-error-violations")).utf8)
                guard case .array(let elements) = violations else {
                    Issue.record("\(violations)")
                    return
                }
                #expect(elements.map { $0["pointer"]?.text } == ["/image_urls", "/prompt"])
                #expect(try await service.count("requests") == 0)
            }
        }

        @Test(.serialized, arguments: [Int64.min, -1, 0, 9_007_199_254_740_993, Int64.max])
        func `a seed reaches the API exactly`(_ seed: Int64) async throws {
            let server = try await ScriptedServer { _, _ in
                .send(ScriptedServer.answer(200, #"{"task_id":"5c1d4f0e-0b1c-4c2a-9f6e-0a1b2c3d4e5f"}"#))
            }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker()
                try await service.publish([ServiceFixture.job("x", #","seed":\#(seed)"#)])
                try await service.waitFor(1, in: "jobs.results")
            }
            let request = try #require(server.requests.first)
            #expect(String(decoding: request.body, as: UTF8.self).hasSuffix(#""seed":\#(seed)}"#))
            #expect(request.header("Idempotency-Key") == "job-0")
        }

        @Test func `a drain finishes what is in flight and gives back the rest`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "1s"]) { service in
                let worker = try await service.startWorker(["SEEDREAM_WORKER_CONCURRENCY": "20"])
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 100))
                try await eventually("20 in flight") { try await service.count("in_flight") == 20 }
                worker.signal(SIGTERM)
                #expect(try await worker.outcome().status == 0)
                let accepted = try await service.count("accepted")
                #expect(accepted < 100)
                #expect(try await service.ready("jobs.results") == UInt32(accepted))
                try await eventually("the rest is back") {
                    try await service.ready("jobs") + service.ready("jobs.retry.1s") == 100 - UInt32(accepted)
                }
            }
        }

        @Test func `a second signal ends at once`() async throws {
            try await ServiceFixture.with(sandbox: ["--fault", "hang=100"]) { service in
                let worker = try await service.startWorker()
                try await service.publish([ServiceFixture.job()])
                try await eventually("a request") { try await service.count("in_flight") == 1 }
                worker.signal(SIGTERM)
                try await worker.waitForStderr("draining")
                // Within a second it is the same one.
                let first = ContinuousClock.now
                worker.signal(SIGTERM)
                try await eventually("a second has passed") { ContinuousClock.now - first > .milliseconds(1100) }
                worker.signal(SIGTERM)
                let outcome = try await worker.outcome()
                #expect(outcome.status == 75)
                // Not the drain's own deadline, which is later.
                #expect(outcome.stderr.contains("a second signal"))
                try await service.waitFor(1, in: "jobs")
            }
        }

        @Test func `a drain that takes too long ends with 75`() async throws {
            try await ServiceFixture.with(sandbox: ["--fault", "hang=100"]) { service in
                let worker = try await service.startWorker(["SEEDREAM_WORKER_DRAIN_TIMEOUT": "100ms"])
                try await service.publish([ServiceFixture.job()])
                try await eventually("a request") { try await service.count("in_flight") == 1 }
                worker.signal(SIGINT)
                #expect(try await worker.outcome().status == 75)
                try await service.waitFor(1, in: "jobs")
            }
        }

        @Test func `classic queues do as well`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "0ms", "--fault", "408=30"]) { service in
                _ = try await service.startWorker([
                    "SEEDREAM_QUEUE_TYPE": "classic", "SEEDREAM_RETRY_DELAYS": "50ms",
                    "SEEDREAM_RETRY_MAX_ATTEMPTS": "50",
                ])
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 50) + ["{}"])
                try await service.waitFor(51, in: "jobs.results")
                try await service.waitFor(1, in: "jobs.dlq")
                #expect(try await service.count("accepted") == 50)
            }
        }

        @Test func `a worker that may only look waits for the queues, and says which it misses`() async throws {
            try await ServiceFixture.with { service in
                let looking = try service.launchWorker(["SEEDREAM_QUEUE_TOPOLOGY": "verify"])
                try await looking.waitForStderr("no queue 'jobs.results'")
                _ = try await service.startWorker()
                try await service.broker.withConnection { connection in
                    try await eventually("both consume") {
                        try await connection.inspect(queue: "jobs").consumerCount == 2
                    }
                }
            }
        }

        @Test func `a queue with other arguments is told with what differs`() async throws {
            try await ServiceFixture.with { service in
                try await service.broker.withConnection { connection in
                    let arguments: FieldTable = ["x-queue-type": .text("quorum"), "x-delivery-limit": .int64(3)]
                    _ = try await connection.declare(QueueDeclaration(name: "jobs", arguments: arguments))
                }
                let outcome = try await service.run(["run", "--fail-fast"])
                #expect(outcome.status == 69)
                #expect(outcome.stderr.contains("queue 'jobs'") && outcome.stderr.contains("inequivalent arg"))
            }
        }

        @Test func `a worker without a broker stops in under a second too`() async throws {
            let worker = try Program(
                ["run", "--amqp-url", "amqp://127.0.0.1:1", "--http-listen", "off"],
                environment: ["SEEDREAM_API_TOKEN": "t"]
            )
            try await worker.waitForStderr("no connection to the broker")
            let start = ContinuousClock.now
            worker.signal(SIGTERM)
            #expect(try await worker.outcome().status == 0)
            let elapsed = start.duration(to: .now)
            #expect(try await elapsed < paced(.seconds(1)))
        }

        @Test func `an idle worker stops in under a second`() async throws {
            try await ServiceFixture.with { service in
                let worker = try await service.startWorker()
                let start = ContinuousClock.now
                worker.signal(SIGTERM)
                #expect(try await worker.outcome().status == 0)
                let elapsed = start.duration(to: .now)
                #expect(try await elapsed < paced(.seconds(1)))
            }
        }
    }
}
