import Foundation
import JSON
import NIOConcurrencyHelpers
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// Answers that are not the API's: of proxies, gateways and web servers in front of it.
    @Suite(.timeLimit(.minutes(10)))
    struct ProxyAnswerTests {
        private static let quick = [
            "SEEDREAM_RETRY_DELAYS": "50ms,100ms,200ms,3s", "SEEDREAM_GATE_MIN_DELAY": "100ms",
            "SEEDREAM_GATE_MAX_DELAY": "200ms",
        ]
        private static let accepted = ScriptedServer.answer(200, #"{"task_id":"5c1d4f0e-0b1c-4c2a-9f6e-0a1b2c3d4e5f"}"#)
        private static let envoy =
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination"

        /// The ways to the API.
        enum Way: String, CaseIterable, Sendable {
            case plain, tls, tunnel, tlsInTunnel
        }

        /// A worker whose API answers by a script, on one of the ways.
        private static func with(
            _ way: Way,
            _ more: [String: String] = [:],
            _ script: @escaping @Sendable (Int, ScriptedServer.Request) -> ScriptedServer.Step,
            _ body: (ServiceFixture, ScriptedServer) async throws -> Void
        ) async throws {
            let isSecure = way == .tls || way == .tlsInTunnel
            let certificate = isSecure ? try await TestCertificate(for: "IP:127.0.0.1") : nil
            let server = try await ScriptedServer(certificate: certificate, script)
            let proxy = way == .tunnel || way == .tlsInTunnel ? try await TunnelProxy() : nil
            var settings = quick.merging(more) { _, new in new }
            settings["SEEDREAM_API_CA_FILE"] = certificate?.certificatePath
            // As most programs are told of it.
            if let proxy { settings[isSecure ? "HTTPS_PROXY" : "http_proxy"] = "http://127.0.0.1:\(proxy.port)" }
            let url = "\(isSecure ? "https" : "http")://127.0.0.1:\(server.port)"
            try await ServiceFixture.with(apiURL: url) { service in
                _ = try await service.startWorker(settings)
                try await body(service, server)
                if let proxy {
                    #expect(!proxy.requests.isEmpty && proxy.requests.allSatisfy { $0.hasPrefix("CONNECT ") })
                }
            }
            try await server.close()
            try await proxy?.close()
        }

        @Test(.serialized, arguments: Way.allCases, [envoy, "<html>Backend fetch failed</html>"])
        func `a job behind a proxy's 503 is submitted again, marked`(_ way: Way, _ words: String) async throws {
            try await Self.with(way) { index, _ in
                // The origin has accepted the first, and nobody knows.
                .send(index < 3 ? ScriptedServer.answer(503, words) : Self.accepted)
            } _: { service, server in
                try await service.publish([ServiceFixture.job()])
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["status"]?.text == "submitted")
                #expect(reply.json["may_be_duplicate"] == .boolean(true))
                #expect(server.requests.count == 4)
            }
        }

        @Test func `behind a proxy's 503 one job comes into doubt, and the others wait in the queue`() async throws {
            let isBack = NIOLockedValueBox(false)
            let settings = ["SEEDREAM_WORKER_CONCURRENCY": "1"]
            try await Self.with(.plain, settings) { _, _ in
                .send(isBack.withLockedValue { $0 } ? Self.accepted : ScriptedServer.answer(503, Self.envoy))
            } _: { service, server in
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 50))
                try await eventually("some probes") { server.requests.count >= 10 }
                #expect(Set(server.requests.map { $0.header("idempotency-key") }).count == 1)
                isBack.withLockedValue { $0 = true }
                let replies = try await service.broker.take(50, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" })
                #expect(replies.count { $0.json["may_be_duplicate"] == .boolean(true) } == 1)
            }
        }

        @Test func `under park a proxy's 503 is a person's, and keeps what was said`() async throws {
            try await Self.with(.plain, ["SEEDREAM_POLICY_GATEWAY_ERROR": "park"]) { _, _ in
                .send(ScriptedServer.answer(503, Self.envoy))
            } _: { service, server in
                try await service.publish([ServiceFixture.job()])
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["error"]?["code"]?.text == "outcome_unknown")
                #expect(reply.json["error"]?["api_answer"]?.text == Self.envoy)
                let text = String(decoding: reply.body, as: UTF8.self)
                #expect(try await SchemaCheck.verdicts(of: [text], by: "reply.schema.json") == [true])
                let letter = try #require(try await service.broker.take(1, from: "jobs.unknown").first)
                #expect(letter.header("x-api-answer") == Self.envoy)
                #expect(server.requests.count == 1)
            }
        }

        @Test(.serialized, arguments: Way.allCases)
        func `a queue behind a wrong port is not dead-lettered`(_ way: Way) async throws {
            let isRight = NIOLockedValueBox(false)
            let wrong = "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>"
            try await Self.with(way) { _, _ in
                .send(isRight.withLockedValue { $0 } ? Self.accepted : ScriptedServer.answer(400, wrong))
            } _: { service, server in
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 60))
                try await eventually("the third refusal") { server.requests.count >= 3 }
                let before = server.requests.count
                try await eventually("probes") { server.requests.count >= before + 5 }
                try await service.waitFor(3, in: "jobs.dlq")
                isRight.withLockedValue { $0 = true }
                let replies = try await service.broker.take(60, from: "jobs.results")
                #expect(replies.count { $0.json["status"]?.text == "submitted" } == 57)
                #expect(try await service.ready("jobs.dlq") == 3)
            }
        }

        @Test(
            .serialized,
            arguments: Way.allCases,
            [
                #"{"code":0,"data":{"task_id":"abc"}}"#, #"{"taskId":"abc"}"#, #"{"code":200,"data":{"taskId":"abc"}}"#,
            ]
        )
        func `a paid task id reaches the producer in whatever shape it comes`(_ way: Way, _ body: String) async throws {
            try await Self.with(way) { _, _ in
                .send(ScriptedServer.answer(202, body))
            } _: { service, server in
                try await service.publish([ServiceFixture.job()])
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["task_id"]?.text == "abc" && reply.json["may_be_duplicate"] == nil)
                #expect(server.requests.count == 1)
            }
        }

        @Test func `what cannot be told apart is kept where a person finds it, without the prompt`() async throws {
            let answer = #"{"task_id":"one-1","taskId":"two-2","echo":"make it blue"}"#
            try await Self.with(.plain) { _, _ in
                .send(ScriptedServer.answer(200, answer))
            } _: { service, _ in
                try await service.publish([ServiceFixture.job()])
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                let kept = try #require(reply.json["error"]?["api_answer"]?.text)
                #expect(kept.contains("one-1") && kept.contains("two-2") && !kept.contains("blue"))
                let letter = try #require(try await service.broker.take(1, from: "jobs.unknown").first)
                #expect(letter.header("x-api-answer") == kept)
            }
        }

        @Test func `a slow way to the API does not let more start than the limit allows`() async throws {
            let times = NIOLockedValueBox<[ContinuousClock.Instant]>([])
            // What is slow is the tunnel: each is opened half a second late.
            let server = try await ScriptedServer { _, _ in
                times.withLockedValue { $0.append(.now) }
                return .send(Self.accepted)
            }
            let proxy = try await TunnelProxy(delay: .milliseconds(1500))
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker(
                    Self.quick.merging([
                        "SEEDREAM_WORKER_RATE_LIMIT": "10/2s", "SEEDREAM_API_PROXY": "http://127.0.0.1:\(proxy.port)",
                    ]) { $1 }
                )
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 30))
                try await service.waitFor(30, in: "jobs.results")
            }
            let seen = times.withLockedValue { $0.sorted() }
            // No eleven of them are closer together than the period, but for what a request takes on its way.
            for index in seen.indices.dropFirst(10) {
                #expect(seen[index - 10].duration(to: seen[index]) >= .milliseconds(1800))
            }
        }
    }
}
