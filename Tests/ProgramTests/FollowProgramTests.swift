import AMQP
import Foundation
import JSON
import TestSupport
import Testing

extension ProgramTests {
    /// Accepted tasks, followed to their images.
    @Suite(.timeLimit(.minutes(4)))
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

        @Test(arguments: [
            ("task-failed", "generation_failed", "jobs.dlq"), ("task-lost", "task_not_found", "jobs.unknown"),
            ("task-stuck", "follow_timeout", "jobs.unknown"),
        ])
        func `a task without images ends once, with its id`(_ fault: String, _ code: String, _ queue: String)
            async throws
        {
            let sandbox = ["--latency", "0ms", "--generation", "100ms", "--fault", "\(fault)=100"]
            try await ServiceFixture.with(sandbox: sandbox) { service in
                _ = try await service.startWorker(Self.settings.merging(["SEEDREAM_FOLLOW_DEADLINE": "4s"]) { $1 })
                try await Self.publish(3, service)
                let replies = try await service.broker.take(6, from: "jobs.results")
                let failures = replies.filter { $0.json["status"]?.text == "failed" }
                #expect(failures.count == 3)
                #expect(failures.allSatisfy { $0.json["error"]?["code"]?.text == code }, "\(failures.map(\.json))")
                #expect(failures.allSatisfy { $0.json["task_id"]?.text != nil && $0.json["charged"]?.text == "maybe" })
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
            }
        }
    }
}
