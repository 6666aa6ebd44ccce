import Foundation
import JSON
import NIOConcurrencyHelpers
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// What answers and silences do to jobs, through the real program and the real broker.
    @Suite(.timeLimit(.minutes(10)))
    struct OutcomeTests {
        private static let quick = [
            "SEEDREAM_RETRY_DELAYS": "50ms,100ms,200ms,3s", "SEEDREAM_GATE_MIN_DELAY": "100ms",
            "SEEDREAM_GATE_MAX_DELAY": "500ms",
        ]
        private static let accepted = ScriptedServer.answer(200, #"{"task_id":"5c1d4f0e-0b1c-4c2a-9f6e-0a1b2c3d4e5f"}"#)

        /// Runs a worker against a scripted API.
        private static func withScript(
            _ script: Script,
            _ more: [String: String] = [:],
            _ body: (ServiceFixture, ScriptedServer) async throws -> Void
        ) async throws {
            let server = try await ScriptedServer(script.step)
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker(quick.merging(more) { _, new in new })
                try await body(service, server)
            }
            try await server.close()
        }

        /// The one reply to the one job.
        private static func reply(_ service: ServiceFixture, _ job: String = ServiceFixture.job()) async throws
            -> Delivery
        {
            try await service.publish([job])
            return try #require(try await service.broker.take(1, from: "jobs.results").first)
        }

        @Test func `2000 jobs among faults each have exactly one end`() async throws {
            let faults = ["500=5", "429=5", "reset=3", "garbage=2", "no-task-id=2", "422=3"]
            let arguments = ["--latency", "5ms", "--retry-after", "1s"] + faults.flatMap { ["--fault", $0] }
            try await ServiceFixture.with(sandbox: arguments) { service in
                var settings = Self.quick
                settings["SEEDREAM_POLICY_NO_ANSWER"] = "park"
                settings["SEEDREAM_POLICY_GATEWAY_ERROR"] = "park"
                _ = try await service.startWorker(settings)
                let count = 2000
                try await service.publish(Array(repeating: ServiceFixture.job(), count: count))
                try await service.waitFor(UInt32(count), in: "jobs.results", within: .seconds(150))
                let replies = try await service.broker.take(count, from: "jobs.results")
                #expect(Set(replies.compactMap { $0.json["job_id"]?.text }).count == count)
                func number(_ code: String) -> Int { replies.count { $0.json["error"]?["code"]?.text == code } }
                let submitted = replies.count { $0.json["status"]?.text == "submitted" }
                let unknown = number("outcome_unknown")
                #expect(submitted + unknown + number("api_rejected") == count)
                #expect(try await service.ready("jobs.unknown") == UInt32(unknown))
                #expect(try await service.ready("jobs.dlq") == UInt32(number("api_rejected")))
                #expect(try await service.ready("jobs") == 0)
                let seen = try await service.statistics()
                #expect(seen["duplicates"] == .integer(0))
                let statuses = seen["by_status"]
                #expect(statuses?["422"]?.exactInteger ?? 0 == Int64(number("api_rejected")))
                // What the sandbox took is what was replied, and what nobody can know.
                let errors = statuses?["500"]?.exactInteger ?? 0
                #expect(seen["accepted"]?.exactInteger ?? 0 == Int64(submitted + unknown) - errors)
            }
        }

        @Test func `a bad token dead-letters nothing, and a new one in the file is enough`() async throws {
            let file = FileManager.default.temporaryDirectory.appendingPathComponent("token-\(UUID().uuidString)")
            try Data("old".utf8).write(to: file)
            defer { try? FileManager.default.removeItem(at: file) }
            let script: @Sendable (Int, ScriptedServer.Request) -> ScriptedServer.Step = { _, request in
                request.header("Authorization") == "Bearer new"
                    ? .send(Self.accepted) : .send(ScriptedServer.answer(401, "{}"))
            }
            let server = try await ScriptedServer(script)
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                var settings = Self.quick
                settings["SEEDREAM_API_TOKEN_FILE"] = file.path
                settings["SEEDREAM_WORKER_CONCURRENCY"] = "10"
                settings["SEEDREAM_GATE_MAX_DELAY"] = "1s"
                let worker = try await service.startWorker(settings)
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 500))
                try await worker.waitForStderr("the gate is closed")
                // Several probes, each refused, and nothing else.
                try await eventually("some probes") { server.requests.count >= 14 }
                #expect(server.requests.count <= 20)
                #expect(try await service.ready("jobs.dlq") == 0)
                try Data("new".utf8).write(to: file)
                try await service.waitFor(500, in: "jobs.results")
                #expect(try await service.ready("jobs.dlq") == 0)
                #expect(try await service.ready("jobs.unknown") == 0)
                let accepted = server.requests.filter { $0.header("Authorization") == "Bearer new" }
                #expect(accepted.count == 500)
                #expect(Set(accepted.compactMap { $0.header("Idempotency-Key") }).count == 500)
                #expect(
                    worker.stderr.components(separatedBy: "the gate is closed").count == 2,
                    "one line for the change"
                )
                #expect(worker.stderr.contains("the gate is open"))
            }
        }

        @Test func `an API whose port is closed costs no job`() async throws {
            let probe = try await ScriptedServer { _, _ in .send(Self.accepted) }
            let port = probe.port
            try await probe.close()
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(port)") { service in
                let worker = try await service.startWorker(Self.quick)
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 200))
                try await worker.waitForStderr("the gate is closed")
                #expect(worker.stderr.contains("connect"))
                let server = try await ScriptedServer(port: port) { _, _ in .send(Self.accepted) }
                try await service.waitFor(200, in: "jobs.results")
                #expect(try await service.ready("jobs.dlq") == 0)
                let replies = try await service.broker.take(200, from: "jobs.results")
                let failed = replies.filter { $0.json["status"]?.text != "submitted" }
                #expect(failed.isEmpty, "\(failed.first?.json ?? .null), \(worker.stderr)")
                #expect(server.requests.count == 200)
                try await server.close()
            }
        }

        @Test func `503 with Retry-After is obeyed`() async throws {
            let until = NIOLockedValueBox<ContinuousClock.Instant?>(nil)
            let early = NIOLockedValueBox(0)
            try await Self.withScript(
                Script { _, _ in
                    let end = until.withLockedValue { end in
                        if end == nil { end = .now + .seconds(2) }
                        return end ?? .now
                    }
                    guard ContinuousClock.now < end else { return .send(Self.accepted) }
                    early.withLockedValue { $0 += 1 }
                    return .send(ScriptedServer.answer(503, #"{"message":"busy"}"#, headers: "Retry-After: 2\r\n"))
                }
            ) { service, server in
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 300))
                try await service.waitFor(300, in: "jobs.results")
                #expect(try await service.ready("jobs.dlq") == 0)
                // Only what was in flight as the first answer came.
                #expect(early.withLockedValue { $0 } <= 50)
                #expect(server.requests.count <= 350)
            }
        }

        @Test func `one slow job holds back nobody`() async throws {
            try await Self.withScript(
                Script { _, request in
                    request.header("Idempotency-Key") == "job-0" ? .hang : .send(Self.accepted)
                },
                ["SEEDREAM_API_TIMEOUT": "30s"]
            ) { service, _ in
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 1001))
                try await service.waitFor(1000, in: "jobs.results")
                try await service.broker.withConnection { connection in
                    try await eventually("all but one acknowledged") {
                        try await connection.inspect(queue: "jobs").messageCount == 0
                    }
                }
                // The management's statistics come every five seconds.
                try await eventually("one unacknowledged") {
                    try await service.broker.queue("jobs")["messages_unacknowledged"] == .integer(1)
                }
            }
        }

        @Test func `attempts are counted, and end`() async throws {
            try await Self.withScript(Script { _, _ in .send(ScriptedServer.answer(408, "")) }) { service, server in
                let reply = try await Self.reply(service)
                #expect(reply.json["error"]?["code"]?.text == "retries_exhausted")
                #expect(reply.json["error"]?["http_status"] == .integer(408))
                #expect(reply.json["attempts"] == .integer(5))
                #expect(reply.json["charged"]?.text == "no")
                #expect(server.requests.count == 5)
                let letter = try #require(try await service.broker.take(1, from: "jobs.dlq").first)
                #expect(letter.properties.headers?["x-attempts"]?.integer == 5)
                #expect(letter.properties.headers?["x-death"] == nil)
                #expect(letter.header("x-original-routing-key") == "jobs")
            }
        }

        @Test func `409 ends after three submissions`() async throws {
            try await Self.withScript(Script { _, _ in .send(ScriptedServer.answer(409, #"{"message":"busy"}"#)) }) {
                service,
                server in
                let reply = try await Self.reply(service)
                #expect(reply.json["error"]?["code"]?.text == "api_rejected")
                #expect(server.requests.count == 3)
            }
        }

        @Test func `a retry is never earlier than told`() async throws {
            let times = NIOLockedValueBox<[ContinuousClock.Instant]>([])
            try await Self.withScript(
                Script { index, _ in
                    times.withLockedValue { $0.append(.now) }
                    return index == 0
                        ? .send(ScriptedServer.answer(425, "", headers: "Retry-After: 2\r\n")) : .send(Self.accepted)
                }
            ) { service, _ in
                let reply = try await Self.reply(service)
                #expect(reply.json["attempts"] == .integer(2))
                let seen = times.withLockedValue { $0 }
                #expect(seen[0].duration(to: seen[1]) >= .seconds(2))
            }
        }

        @Test(.serialized, arguments: ["park", "retry"])
        func `a submission that is never answered is what the policy says`(_ policy: String) async throws {
            let settings = ["SEEDREAM_POLICY_NO_ANSWER": policy]
            try await Self.withScript(Script { index, _ in index == 0 ? .reset : .send(Self.accepted) }, settings) {
                service,
                server in
                let reply = try await Self.reply(service)
                if policy == "park" {
                    #expect(reply.json["error"]?["code"]?.text == "outcome_unknown")
                    #expect(reply.json["charged"]?.text == "maybe")
                    #expect(server.requests.count == 1)
                    let letter = try #require(try await service.broker.take(1, from: "jobs.unknown").first)
                    #expect(letter.header("x-error-charged") == "maybe")
                } else {
                    #expect(reply.json["status"]?.text == "submitted")
                    #expect(reply.json["may_be_duplicate"] == .boolean(true))
                    #expect(server.requests.count == 2)
                }
            }
        }

        @Test(.serialized, arguments: ["park", "retry"])
        func `a gateway error is what the policy says, and the mark stays to the end`(_ policy: String) async throws {
            let settings = ["SEEDREAM_POLICY_GATEWAY_ERROR": policy]
            try await Self.withScript(
                Script { index, _ in .send(ScriptedServer.answer(index == 0 ? 502 : 422, "")) },
                settings
            ) {
                service,
                server in
                let reply = try await Self.reply(service)
                #expect(reply.json["charged"]?.text == "maybe")
                #expect(reply.json["error"]?["code"]?.text == (policy == "park" ? "outcome_unknown" : "api_rejected"))
                #expect(server.requests.count == (policy == "park" ? 1 : 2))
                #expect(reply.json["may_be_duplicate"] == (policy == "park" ? nil : .boolean(true)))
                #expect(try await service.ready("jobs.dlq") == 0)
                #expect(try await service.ready("jobs.unknown") == 1)
            }
        }

        @Test(
            .serialized,
            arguments: [
                "<html></html>", "{}", #"{"task_id":""}"#, #"{"code":200,"data":{}}"#, "",
            ]
        )
        func `a yes that cannot be read is parked whatever the policies`(_ body: String) async throws {
            let settings = ["SEEDREAM_POLICY_NO_ANSWER": "retry", "SEEDREAM_POLICY_GATEWAY_ERROR": "retry"]
            try await Self.withScript(Script { _, _ in .send(ScriptedServer.answer(200, body)) }, settings) {
                service,
                server in
                let reply = try await Self.reply(service)
                #expect(reply.json["error"]?["code"]?.text == "outcome_unknown")
                #expect(try await service.ready("jobs.unknown") == 1)
                #expect(server.requests.count == 1)
            }
        }

        @Test(.serialized, arguments: ["reset", "hang"])
        func `an API that does not answer does not burn the queue`(_ fault: String) async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "0ms", "--fault", "\(fault)=100"]) { service in
                let worker = try service.launchWorker([
                    "SEEDREAM_HTTP_LISTEN": "127.0.0.1:0", "SEEDREAM_API_TIMEOUT": "300ms",
                    "SEEDREAM_WORKER_CONCURRENCY": "10", "SEEDREAM_GATE_MIN_DELAY": "1s",
                ])
                let url = try await HTTPGet.healthURL(of: worker)
                try await eventually("ready") { try await HTTPGet(url + "/readyz").status == 200 }
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 500))
                try await worker.waitForStderr("no_answer")
                var requests: Int64 = 0
                try await eventually("three probes, one after the other") {
                    requests = try await service.count("requests")
                    return requests >= 13
                }
                // What was in flight as the fifth came back, and a probe per pause.
                #expect(requests <= 20)
                let ready = try await HTTPGet(url + "/readyz")
                #expect(ready.status == 503)
                #expect(ready.json["missing"]?.elements.contains { $0["reason"]?.text == "no_answer" } == true)
                #expect(try await service.ready("jobs.unknown") <= 20)
                #expect(try await service.ready("jobs.dlq") == 0)
            }
        }

        @Test func `a rate limit is kept`() async throws {
            let limited = ["SEEDREAM_WORKER_RATE_LIMIT": "20/1s"]
            try await Self.withScript(Script { _, _ in .send(Self.accepted) }, limited) { service, _ in
                let start = ContinuousClock.now
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 60))
                try await service.waitFor(60, in: "jobs.results")
                #expect(start.duration(to: .now) >= .milliseconds(2950))
            }
        }

        @Test func `headers that would break or misroute a dead letter do neither`() async throws {
            try await Self.withScript(Script { _, _ in .send(ScriptedServer.answer(422, "")) }) { service, _ in
                try await service.broker.withConnection { connection in
                    _ = try await connection.declare(QueueDeclaration(name: "elsewhere"))
                }
                let large = String(repeating: "x", count: 40_000)
                try await service.publish([ServiceFixture.job()]) { _, properties in
                    properties.userID = "guest"
                    properties.expiration = "600000"
                    properties.headers = [
                        "CC": .array([.text("elsewhere")]), "latin": .string(ByteString([0xE9, 0xFF])),
                        "large-1": .text(large), "large-2": .text(large), "large-3": .text(large),
                        "nested": .table(["a": .array([.timestamp(1), .decimal(scale: 1, value: 5), .void])]),
                    ]
                }
                let letter = try #require(try await service.broker.take(1, from: "jobs.dlq").first)
                #expect(letter.header("x-original-user-id") == "guest")
                #expect(letter.header("x-original-expiration") == "600000")
                #expect(letter.properties.headers?["x-original-cc"] == .array([.text("elsewhere")]))
                #expect(letter.properties.headers?["latin"] == .string(ByteString([0xE9, 0xFF])))
                #expect(
                    letter.properties.headers?["nested"]
                        == .table(["a": .array([.timestamp(1), .decimal(scale: 1, value: 5), .void])])
                )
                #expect(String(decoding: letter.body, as: UTF8.self) == ServiceFixture.job())
                // The producer's own copy, and no second one of ours.
                #expect(try await service.ready("elsewhere") == 1)
            }
        }

        @Test func `a dead letter queue that was deleted is made again before the job is acknowledged`() async throws {
            try await Self.withScript(Script { _, _ in .send(Self.accepted) }) { service, _ in
                try await service.broker.withConnection { connection in
                    for queue: ByteString in ["jobs.dlq", "jobs.results"] { try await connection.delete(queue: queue) }
                }
                try await service.publish(["{}"])
                try await service.waitFor(1, in: "jobs.dlq")
                try await service.waitFor(1, in: "jobs.results")
            }
        }
    }
}

/// What a scripted API does to each request, by its number from 0.
struct Script: Sendable {
    let step: @Sendable (Int, ScriptedServer.Request) -> ScriptedServer.Step

    init(_ step: @escaping @Sendable (Int, ScriptedServer.Request) -> ScriptedServer.Step) {
        self.step = step
    }
}
