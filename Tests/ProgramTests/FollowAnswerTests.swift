import Foundation
import JSON
import NIOConcurrencyHelpers
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// What answers to looks at tasks do: to the task, to the gate, and to a replay afterwards.
    @Suite(.timeLimit(.minutes(10)))
    struct FollowAnswerTests {
        private static let settings = [
            "SEEDREAM_FOLLOW_DELAYS": "300ms,1s", "SEEDREAM_FOLLOW_RATE_LIMIT": "200/1s",
            "SEEDREAM_RETRY_DELAYS": "200ms,1s", "SEEDREAM_GATE_MIN_DELAY": "1s", "SEEDREAM_GATE_MAX_DELAY": "1s",
        ]
        private static let images = #"["https://img.example/a.png"]"#

        /// An API that accepts each job as the task of its own number, and whose looks are answered by a script.
        private final class API: Sendable {
            let server: ScriptedServer

            init(
                _ look: @escaping @Sendable (_ task: String, _ request: ScriptedServer.Request) -> String
            ) async throws {
                let accepted = NIOLockedValueBox(0)
                server = try await ScriptedServer { _, request in
                    guard !request.path.hasPrefix("/v1/tasks/") else {
                        return .send(look(String(request.path.dropFirst(10)), request))
                    }
                    let number = accepted.withLockedValue { number in
                        number += 1
                        return number
                    }
                    return .send(ScriptedServer.answer(200, #"{"task_id":"task-\#(number)"}"#))
                }
            }

            var url: String { "http://127.0.0.1:\(server.port)" }
            var submissions: Int { server.requests.count { !$0.path.hasPrefix("/v1/tasks/") } }
            var looks: [ScriptedServer.Request] { server.requests.filter { $0.path.hasPrefix("/v1/tasks/") } }
        }

        private static func publish(
            _ service: ServiceFixture,
            count: Int = 1,
            _ change: @escaping @Sendable (inout MessageProperties) -> Void = { _ in }
        ) async throws {
            try await service.publish(Array(repeating: ServiceFixture.job(), count: count)) { _, properties in
                properties.headers = ["x-follow": .boolean(true)]
                change(&properties)
            }
        }

        @Test func `tasks that were promised a look have it from replicas that follow none themselves`() async throws {
            let api = try await API { _, _ in
                ScriptedServer.answer(200, #"{"status":"completed","result":\#(Self.images)}"#)
            }
            try await ServiceFixture.with(apiURL: api.url) { service in
                let promising = try await service.startWorker(
                    Self.settings.merging(["SEEDREAM_FOLLOW_DELAYS": "2s"]) { $1 }
                )
                try await Self.publish(service)
                try await service.waitFor(1, in: "jobs.results")
                promising.signal(SIGKILL)
                _ = try await service.startWorker(
                    Self.settings.merging(["SEEDREAM_FOLLOW_TASKS": "none", "SEEDREAM_FOLLOW_DELAYS": "2s"]) { $1 }
                )
                // Killed before its acknowledgement, the first one has left it to the second to reply once more.
                var replies: [String?] = []
                while replies.last != "completed", replies.count < 4 {
                    replies += try await service.broker.take(1, from: "jobs.results").map { $0.json["status"]?.text }
                }
                #expect(replies.last == "completed" && Set(replies.dropLast()) == ["submitted"], "\(replies)")
                // New ones are not promised any.
                try await Self.publish(service) { $0.messageID = "new" }
                let other = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(other.json["status"]?.text == "submitted" && other.json["follows"] == nil)
            }
        }

        @Test func `a refused token is used once per pause, and a look that is answered opens the gate`() async throws {
            let isValid = NIOLockedValueBox(true)
            let isReady = NIOLockedValueBox(false)
            let api = try await API { _, _ in
                guard isValid.withLockedValue({ $0 }) else { return ScriptedServer.answer(401, #"{"message":"no"}"#) }
                let isReady = isReady.withLockedValue { $0 }
                return ScriptedServer.answer(
                    200,
                    isReady ? #"{"status":"completed","result":\#(Self.images)}"# : #"{"status":"processing"}"#
                )
            }
            try await ServiceFixture.with(apiURL: api.url) { service in
                let worker = try await service.startWorker(
                    Self.settings.merging(["SEEDREAM_HTTP_LISTEN": "127.0.0.1:0"]) { $1 }
                )
                let url = try await HTTPGet.healthURL(of: worker)
                try await Self.publish(service, count: 20)
                try await service.waitFor(20, in: "jobs.results")
                isValid.withLockedValue { $0 = false }
                try await worker.waitForStderr("the gate is closed")
                // Those under way at once, and from then on one per pause: not twenty every 300 ms.
                let before = api.looks.count
                let start = ContinuousClock.now
                try await eventually("five probes", within: .seconds(60)) { api.looks.count >= before + 5 }
                #expect(ContinuousClock.now - start >= .seconds(3))
                #expect(try await HTTPGet(url + "/readyz").status == 503)
                isReady.withLockedValue { $0 = true }
                isValid.withLockedValue { $0 = true }
                // No job comes, and the gate opens all the same.
                try await worker.waitForStderr("the gate is open")
                try await eventually("ready") { try await HTTPGet(url + "/readyz").status == 200 }
                let replies = try await service.broker.take(40, from: "jobs.results")
                #expect(replies.count { $0.json["status"]?.text == "completed" } == 20)
                let metrics = try await Metrics(url).byLabel("seedream_api_requests_total", "operation")
                #expect(metrics["submit"] == 20 && (metrics["look"] ?? 0) >= 20)
            }
        }

        @Test func `a while of 404 from the front of the API loses no task, and is told`() async throws {
            let start = NIOLockedValueBox<ContinuousClock.Instant?>(nil)
            let api = try await API { _, _ in
                let first = start.withLockedValue { start in
                    if start == nil { start = .now }
                    return start ?? .now
                }
                return ContinuousClock.now - first < .seconds(6)
                    ? ScriptedServer.answer(404, "<html>404 page not found</html>")
                    : ScriptedServer.answer(200, #"{"status":"completed","result":\#(Self.images)}"#)
            }
            try await ServiceFixture.with(apiURL: api.url) { service in
                let worker = try await service.startWorker(Self.settings)
                try await Self.publish(service, count: 10)
                let replies = try await service.broker.take(20, from: "jobs.results")
                #expect(replies.count { $0.json["status"]?.text == "completed" } == 10)
                #expect(worker.stderr.contains("the API knows none of the tasks that were looked at"))
                #expect(try await service.ready("jobs.unknown") == 0)
            }
        }

        @Test func `a submission has one moment, whoever tells of it`() async throws {
            let api = try await API { _, _ in
                ScriptedServer.answer(
                    200,
                    #"{"code":200,"data":{"state":"success","resultJson":"{\"resultUrls\":[\"https://img.example/a.png\"]}"}}"#
                )
            }
            try await ServiceFixture.with(apiURL: api.url) { service in
                _ = try await service.startWorker(Self.settings)
                try await Self.publish(service)
                let first = try await service.broker.take(2, from: "jobs.results")
                #expect(first.map { $0.json["status"]?.text } == ["submitted", "completed"])
                // The same job once more, later: the journal knows.
                try await Self.publish(service)
                let second = try await service.broker.take(2, from: "jobs.results")
                #expect(second.first?.json["duplicate_of_delivery"] == .boolean(true))
                let moments = Set((first + second).map { $0.json["submitted_at"]?.text ?? "?" })
                #expect(moments.count == 1, "\(moments)")
                #expect(api.submissions == 1)
            }
        }

        @Test func `looks that are not understood are logged, with what was said but not the job`() async throws {
            let isBack = NIOLockedValueBox(false)
            let api = try await API { _, _ in
                isBack.withLockedValue { $0 }
                    ? ScriptedServer.answer(200, #"{"status":"completed","result":\#(Self.images)}"#)
                    : ScriptedServer.answer(503, "<html>make it blue, they said: down</html>")
            }
            try await ServiceFixture.with(apiURL: api.url) { service in
                let worker = try await service.startWorker(Self.settings)
                try await Self.publish(service, count: 3)
                try await worker.waitForStderr("looks at tasks are not answered as documented")
                #expect(worker.stderr.contains("they said: down") && worker.stderr.contains("HTTP status 503"))
                isBack.withLockedValue { $0 = true }
                _ = try await service.broker.take(6, from: "jobs.results")
                try await worker.waitForStderr("looks at tasks are answered again")
                #expect(worker.stderr.components(separatedBy: "not answered as documented").count == 2)
            }
        }

        @Test func `a replay of a failed task submits anew with consent, once, or looks again without`() async throws {
            let isFailed = NIOLockedValueBox(true)
            let api = try await API { task, _ in
                task == "task-1" && isFailed.withLockedValue { $0 }
                    ? ScriptedServer.answer(200, #"{"status":"failed","error_msg":"no"}"#)
                    : ScriptedServer.answer(200, #"{"status":"completed","result":\#(Self.images)}"#)
            }
            try await ServiceFixture.with(apiURL: api.url) { service in
                _ = try await service.startWorker(Self.settings)
                try await Self.publish(service)
                try await service.waitFor(1, in: "jobs.dlq")
                _ = try await service.broker.take(2, from: "jobs.results")
                let history = try await service.run(["history", "--format", "json"])
                #expect(history.stdout.contains(#""charged":"maybe""#), "\(history.stdout)")
                // Without leave nothing happens.
                let none = try await service.run(["dead-letters", "replay"])
                #expect(none.status == 1 && none.stderr.contains("1 may have been paid for and were left"))
                // The known task once more, which has failed for good.
                let again = try await service.run(["dead-letters", "replay", "--look-again"])
                #expect(again.status == 0, "\(again.stderr)")
                let same = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(
                    same.json["error"]?["code"]?.text == "generation_failed" && same.json["task_id"]?.text == "task-1"
                )
                #expect(api.submissions == 1)
                try await service.waitFor(1, in: "jobs.dlq")
                // A new submission, marked.
                let paid = try await service.run(["dead-letters", "replay", "--accept-double-charge"])
                #expect(paid.status == 0, "\(paid.stderr)")
                let replies = try await service.broker.take(2, from: "jobs.results")
                #expect(replies.map { $0.json["status"]?.text } == ["submitted", "completed"])
                #expect(replies.allSatisfy { $0.json["task_id"]?.text == "task-2" })
                #expect(replies.allSatisfy { $0.json["may_be_duplicate"] == .boolean(true) })
                #expect(api.submissions == 2)
                #expect(try await service.ready("jobs.dlq") == 0)
            }
        }

        @Test func `a task that comes to its images late is found by looking again`() async throws {
            let isReady = NIOLockedValueBox(false)
            let api = try await API { _, _ in
                ScriptedServer.answer(
                    200,
                    isReady.withLockedValue { $0 }
                        ? #"{"status":"completed","result":\#(Self.images)}"# : #"{"status":"processing"}"#
                )
            }
            try await ServiceFixture.with(apiURL: api.url) { service in
                _ = try await service.startWorker(Self.settings.merging(["SEEDREAM_FOLLOW_DEADLINE": "2s"]) { $1 })
                try await Self.publish(service)
                let replies = try await service.broker.take(2, from: "jobs.results")
                #expect(replies.last?.json["error"]?["code"]?.text == "follow_timeout")
                isReady.withLockedValue { $0 = true }
                let again = try await service.run(["dead-letters", "replay", "--unknown", "--look-again"])
                #expect(again.status == 0 && again.stderr.contains("1 replayed"), "\(again.stderr)")
                let late = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(late.json["status"]?.text == "completed")
                #expect(late.json["submitted_at"] == replies.first?.json["submitted_at"])
                #expect(api.submissions == 1)
                #expect(try await service.ready("jobs.unknown") == 0)
            }
        }

        @Test func `a replay whose requester is gone goes without it, and says so`() async throws {
            let isRight = NIOLockedValueBox(false)
            let server = try await ScriptedServer { _, _ in
                .send(
                    isRight.withLockedValue { $0 }
                        ? ScriptedServer.answer(200, #"{"task_id":"t"}"#)
                        : ScriptedServer.answer(422, #"{"message":"not yet"}"#)
                )
            }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker(Self.settings)
                try await service.broker.withConnection { requester in
                    let replies = try await requester.consume(
                        from: "amq.rabbitmq.reply-to",
                        prefetch: 0,
                        acknowledges: false
                    )
                    var properties = MessageProperties()
                    properties.messageID = "direct"
                    properties.replyTo = "amq.rabbitmq.reply-to"
                    let body = Array(ServiceFixture.job().utf8)
                    _ = try await requester.publish(
                        OutboundMessage(routingKey: "jobs", properties: properties, body: body)
                    )
                    try await within(.seconds(60), "the failure, told") { for await _ in replies.deliveries { break } }
                    try await service.waitFor(1, in: "jobs.dlq")
                }
                isRight.withLockedValue { $0 = true }
                let outcome = try await service.run(["dead-letters", "replay"])
                #expect(outcome.status == 0 && outcome.stderr.contains("1 replayed"), "\(outcome.stderr)")
                #expect(outcome.stderr.contains("1 had a direct reply-to whose requester is gone"))
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["status"]?.text == "submitted")
                #expect(reply.properties.headers?["x-undeliverable-reply-to"] == nil)
            }
        }

        @Test func `a hanging image host costs no more than --timeout`() async throws {
            let port = NIOLockedValueBox(0)
            let server = try await ScriptedServer { _, request in
                let base = "http://127.0.0.1:\(port.withLockedValue { $0 })"
                if request.path.hasPrefix("/v1/tasks/") {
                    let result = #"["\#(base)/hang-1","\#(base)/hang-2","\#(base)/hang-3"]"#
                    return .send(ScriptedServer.answer(200, #"{"status":"completed","result":\#(result)}"#))
                }
                return request.path.hasPrefix("/hang") ? .hang : .send(ScriptedServer.answer(200, #"{"task_id":"t"}"#))
            }
            port.withLockedValue { $0 = server.port }
            let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
            defer { try? FileManager.default.removeItem(at: directory) }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker(Self.settings)
                let start = ContinuousClock.now
                let outcome = try await service.run(
                    ["submit", "-", "--follow", "--download", directory.path, "--timeout", "5s"],
                    stdin: ServiceFixture.job()
                )
                let elapsed = ContinuousClock.now - start
                #expect(try await elapsed < paced(.seconds(30)))
                #expect(outcome.status == 1 && outcome.stderr.contains("3 images not saved"), "\(outcome.stderr)")
                // All three were asked for at once.
                #expect(server.requests.count { $0.path.hasPrefix("/hang") } == 3)
            }
        }
    }
}
