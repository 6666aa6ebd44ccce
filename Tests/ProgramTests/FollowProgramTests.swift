import Foundation
import JSON
import NIOConcurrencyHelpers
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// Accepted tasks, followed to their images.
    @Suite(.timeLimit(.minutes(10)))
    struct FollowProgramTests {
        private static let settings = [
            "SEEDREAM_FOLLOW_DELAYS": "300ms,1s", "SEEDREAM_FOLLOW_RATE_LIMIT": "200/1s",
            "SEEDREAM_RETRY_DELAYS": "200ms,1s", "SEEDREAM_API_TIMEOUT": "3s", "SEEDREAM_API_CONNECT_TIMEOUT": "1s",
        ]

        private static func publish(_ count: Int, _ service: ServiceFixture, asks: Bool = true) async throws {
            let job = ServiceFixture.job("make it blue", #","max_images":2"#)
            try await service.publish(Array(repeating: job, count: count)) { index, properties in
                properties.messageID = ByteString("\(asks ? "asked" : "other")-\(index)")
                if asks { properties.headers = ["x-follow": .boolean(true)] }
            }
        }

        @Test func `who asks has a second reply with the images, and nobody else`() async throws {
            let sandbox = ["--latency", "0ms", "--generation", "1s"]
            try await ServiceFixture.with(sandbox: sandbox) { service in
                _ = try await service.startWorker(Self.settings)
                try await Self.publish(5, service, asks: false)
                try await Self.publish(20, service)
                let replies = try await service.broker.take(45, from: "jobs.results")
                let texts = replies.map { String(decoding: $0.body, as: UTF8.self) }
                #expect(try await SchemaCheck.verdicts(of: texts, by: "reply.schema.json").allSatisfy { $0 })
                let byJob = Dictionary(grouping: replies) { $0.json["job_id"]?.text ?? "" }
                for (id, replies) in byJob {
                    let first = try #require(replies.first { $0.json["status"]?.text == "submitted" })
                    guard id.hasPrefix("asked") else {
                        #expect(replies.count == 1 && first.json["follows"] == nil)
                        continue
                    }
                    #expect(first.json["follows"] == .boolean(true))
                    let second = try #require(replies.first { $0.json["status"]?.text == "completed" })
                    #expect(second.json["task_id"] == first.json["task_id"])
                    #expect(second.json["images"]?.elements.count == 2)
                }
                let urls = replies.compactMap { $0.json["images"]?.elements.first?["url"]?.text }
                let url = try #require(urls.first)
                let type = try await Program.run(
                    ["-s", "-o", "/dev/null", "-w", "%{http_code} %{content_type}", url],
                    executable: "/usr/bin/curl"
                )
                #expect(type.stdout == "200 image/png")
                #expect(try await service.ready("jobs.follow") == 0)
            }
        }

        @Test(
            .serialized,
            arguments: [
                ("task-failed", "generation_failed", "jobs.dlq", "The API accepted the job and made no images"),
                // A task is lost only after three minutes; here the deadline is earlier.
                ("task-lost", "follow_timeout", "jobs.unknown", "the last look saw HTTP status 404"),
                ("task-stuck", "follow_timeout", "jobs.unknown", "the last look saw the status processing"),
            ]
        )
        func `a task without images ends once, with its id`(
            _ fault: String,
            _ code: String,
            _ queue: String,
            _ words: String
        ) async throws {
            let sandbox = ["--latency", "0ms", "--generation", "100ms", "--fault", "\(fault)=100"]
            try await ServiceFixture.with(sandbox: sandbox) { service in
                _ = try await service.startWorker(Self.settings.merging(["SEEDREAM_FOLLOW_DEADLINE": "4s"]) { $1 })
                try await Self.publish(3, service)
                let replies = try await service.broker.take(6, from: "jobs.results")
                let failures = replies.filter { $0.json["status"]?.text == "failed" }
                #expect(failures.count == 3)
                #expect(failures.allSatisfy { $0.json["error"]?["code"]?.text == code }, "\(failures.map(\.json))")
                #expect(failures.allSatisfy { $0.json["task_id"]?.text != nil && $0.json["charged"]?.text == "maybe" })
                #expect(failures.allSatisfy { $0.json["error"]?["message"]?.text?.contains(words) == true })
                let letters = try await service.broker.take(3, from: queue)
                #expect(letters.allSatisfy { $0.header("x-error-code") == code && $0.header("x-task-id") != nil })
                #expect(try await service.count("accepted") == 3)
            }
        }

        @Test func `replicas that are killed while tasks wait lose none, and submit none twice`() async throws {
            let sandbox = ["--latency", "20ms", "--generation", "2s"]
            try await ServiceFixture.with(sandbox: sandbox) { service in
                let settings = Self.settings.merging(["SEEDREAM_WORKER_CONCURRENCY": "10"]) { $1 }
                var workers: [Program] = []
                for number in 1...2 { workers.append(try await service.startWorker(settings, consumers: number)) }
                try await Self.publish(300, service)
                for kill in 0..<6 {
                    let looks = try await service.count("looks")
                    try await eventually("work goes on") { try await service.count("looks") > looks + 20 }
                    workers[kill % 2].signal(SIGKILL)
                    workers[kill % 2] = try service.launchWorker(settings)
                }
                let taken = try await service.broker.withConnection { connection in
                    let consumer = try await connection.consume(from: "jobs.results", prefetch: 0)
                    return try await within(.seconds(120), "an end of every job") {
                        var images: [String: Set<String>] = [:]
                        for await delivery in consumer.deliveries {
                            _ = delivery.acknowledge()
                            let json = delivery.json
                            guard json["status"]?.text != "submitted", let id = json["job_id"]?.text else { continue }
                            let url = json["images"]?.elements.first?["url"]?.text
                            images[id, default: []].insert(url ?? json["error"]?["code"]?.text ?? "?")
                            if images.count == 300 { break }
                        }
                        return images
                    }
                }
                #expect(taken.values.allSatisfy { $0.count == 1 })
                let unknown = taken.values.count { $0 == ["outcome_unknown"] }
                #expect(unknown <= 60, "\(unknown) unknown")
                #expect(taken.values.allSatisfy { $0 == ["outcome_unknown"] || $0.first?.hasPrefix("http") == true })
                #expect(try await service.count("duplicates") == 0)
                try await service.waitFor(0, in: "jobs.follow")
            }
        }

        @Test func `images are saved by their content, and never over a file or outside the directory`() async throws {
            let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
            defer { try? FileManager.default.removeItem(at: directory) }
            try await ServiceFixture.with(sandbox: ["--latency", "0ms", "--generation", "200ms"]) { service in
                _ = try await service.startWorker(Self.settings)
                let image = directory.appendingPathComponent("images")
                try FileManager.default.createDirectory(at: image, withIntermediateDirectories: true)
                let own = image.appendingPathComponent("kept-1.png")
                try Data("mine".utf8).write(to: own)
                let ids = ["../../up", "kept", "plain"]
                let jobs = ids.map { id in
                    #"{"id":"\#(id)","image_urls":["https://example.com/a.png"],"prompt":"p","max_images":2}"#
                }
                let outcome = try await service.run(
                    ["submit", "-", "--follow", "--download", image.path, "--id-field", "id", "--timeout", "30s"],
                    stdin: jobs.joined(separator: "\n")
                )
                // What could not be had is told, and is a failure.
                #expect(outcome.status == 1, "\(outcome.stderr)")
                #expect(outcome.stderr.contains("3 completed, 5 images saved, 1 image not saved"), "\(outcome.stderr)")
                #expect(outcome.stderr.contains("kept: image 1 could not be saved: \(own.path) is there already"))
                let names = try FileManager.default.contentsOfDirectory(atPath: image.path).sorted()
                #expect(
                    names == [
                        "%2E.%2F..%2Fup-1.png", "%2E.%2F..%2Fup-2.png", "kept-1.png", "kept-2.png", "plain-1.png",
                        "plain-2.png",
                    ]
                )
                #expect(try Data(contentsOf: own) == Data("mine".utf8))
                let first = try Data(contentsOf: image.appendingPathComponent("plain-1.png"))
                let second = try Data(contentsOf: image.appendingPathComponent("plain-2.png"))
                #expect(first.starts(with: [0x89, 0x50, 0x4E, 0x47]) && first != second)
            }
        }

        @Test func `what is no image, too large or not there is told and not saved`() async throws {
            let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
            defer { try? FileManager.default.removeItem(at: directory) }
            let port = PortBox()
            let server = try await ScriptedServer { _, request in
                let base = "http://127.0.0.1:\(port.value)"
                switch request.path {
                case "/v1/tasks/t":
                    let urls = ["lie.png", "missing", "endless"].map { #""\#(base)/\#($0)""# }.joined(separator: ",")
                    return .send(ScriptedServer.answer(200, #"{"id":"t","status":"success","result":[\#(urls)]}"#))
                case "/lie.png": return .send(ScriptedServer.answer(200, "<html>no image</html>"))
                case "/endless": return .sendAndClose("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nabc")
                case "/missing": return .send(ScriptedServer.answer(404, ""))
                default: return .send(ScriptedServer.answer(200, #"{"task_id":"t"}"#))
                }
            }
            port.value = server.port
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker(Self.settings)
                let outcome = try await service.run(
                    ["submit", "-", "--follow", "--download", directory.path, "--timeout", "30s"],
                    stdin: ServiceFixture.job()
                )
                #expect(outcome.status == 1, "\(outcome.stderr)")
                #expect(outcome.stderr.contains("is no PNG, JPEG, WebP or GIF image"), "\(outcome.stderr)")
                #expect(outcome.stderr.contains("answers 404") && outcome.stderr.contains("in the middle"))
                #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
            }
        }

        @Test(.serialized, arguments: [("they said: make it blue", false), ("no face was found", true)])
        func `the API's words about a task are told, unless they repeat the job`(_ words: String, _ isTold: Bool)
            async throws
        {
            let server = try await ScriptedServer { _, request in
                let failed = #"{"id":"t","status":"failed","error_code":"bad","error_msg":"\#(words)"}"#
                let isLook = request.path == "/v1/tasks/t"
                return .send(ScriptedServer.answer(200, isLook ? failed : #"{"task_id":"t"}"#))
            }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker(Self.settings)
                try await Self.publish(1, service)
                let replies = try await service.broker.take(2, from: "jobs.results")
                let failure = try #require(replies.first { $0.json["status"]?.text == "failed" })
                let message = failure.json["error"]?["message"]?.text ?? ""
                #expect(message.contains(words) == isTold, "\(message)")
                #expect(message.contains("bad"))
            }
        }

        /// The port of a server, which its own script has to know.
        private final class PortBox: Sendable {
            private let box = NIOLockedValueBox(0)
            var value: Int {
                get { box.withLockedValue { $0 } }
                set { box.withLockedValue { $0 = newValue } }
            }
        }

        @Test func `submit --follow waits for the images`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "0ms", "--generation", "500ms"]) { service in
                _ = try await service.startWorker(Self.settings)
                let outcome = try await service.run(
                    ["submit", "-", "--follow", "--timeout", "30s"],
                    stdin: "\(ServiceFixture.job())\n\(ServiceFixture.job("y"))\n"
                )
                #expect(outcome.status == 0, "\(outcome.stderr)")
                #expect(outcome.stderr.contains("2 completed"), "\(outcome.stderr)")
                #expect(outcome.stdout.split(separator: "\n").count == 4)
                try await eventually("the history") {
                    let history = try await service.run(["history", "--format", "json"])
                    return history.stdout.split(separator: "\n").count { $0.contains(#""followed":"completed""#) } == 2
                }
            }
        }
    }
}
