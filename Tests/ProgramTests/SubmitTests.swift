import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// `submit` of many jobs, and of interrupted ones.
    @Suite(.timeLimit(.minutes(10)))
    struct SubmitTests {
        private static func file(_ count: Int) throws -> String {
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).ndjson").path
            let lines = (1...count).map { ServiceFixture.job("number \($0)") }
            try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: URL(fileURLWithPath: path))
            return path
        }

        @Test func `50 000 jobs go out in their order and in little memory`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                let path = try Self.file(50_000)
                let outcome = try await Program.run(
                    ["-v", Program.path, "submit", path],
                    environment: service.environment(),
                    executable: "/usr/bin/time"
                )
                #expect(outcome.status == 0)
                #expect(outcome.stderr.contains("50000 published"))
                let memory = outcome.stderr.split(separator: "\n").first { $0.contains("Maximum resident") }
                let kibibytes = try #require(memory?.split(separator: " ").last.flatMap { Int($0) })
                #expect(kibibytes < 100 * 1024)
                let first = try await service.broker.take(1000, from: "jobs")
                let prompts = first.map { $0.json["prompt"]?.text }
                let isInOrder = prompts == (1...1000).map { "number \($0)" }
                #expect(isInOrder)
            }
        }

        @Test func `what was interrupted goes on where it ended, and pays for no job twice`() async throws {
            try await ServiceFixture.with { service in
                let path = try Self.file(30_000)
                _ = try await service.run(["topology", "declare"])
                let submit = try Program(["submit", path, "--no-check"], environment: service.environment())
                try await eventually("some are published") { try await service.ready("jobs") > 200 }
                submit.signal(SIGINT)
                let outcome = try await submit.outcome()
                #expect(outcome.status == 130, "\(outcome.stderr)")
                let words = outcome.stderr.split { $0 == " " || $0 == "\n" }.map { String($0) }
                let token = words[try #require(words.lastIndex(of: "--resume")) + 1]
                #expect(outcome.stderr.contains("\nseedream-worker submit "), "\(outcome.stderr)")
                let again = try await service.run(["submit", path, "--no-check", "--resume", token])
                #expect(again.status == 0, "\(again.stderr)")
                // What was on its way is there twice, under one id.
                let count = try await Int(service.ready("jobs"))
                #expect((30_000...31_024).contains(count))
                let jobs = try await service.broker.take(count, from: "jobs")
                #expect(Set(jobs.compactMap { $0.properties.messageID?.text }).count == 30_000)
                #expect(Set(jobs.compactMap { $0.json["prompt"]?.text }).count == 30_000)
            }
        }

        @Test func `replies that were not waited for are printed by the command that is named`() async throws {
            try await ServiceFixture.with { service in
                // Two starts in ten seconds: some replies are there, and others not.
                _ = try await service.startWorker([
                    "SEEDREAM_WORKER_RATE_LIMIT": "2/1s", "SEEDREAM_WORKER_CONCURRENCY": "4",
                ])
                let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
                try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
                defer { try? FileManager.default.removeItem(at: directory) }
                let file = directory.appendingPathComponent("my jobs.ndjson").path
                try Data(String(repeating: ServiceFixture.job() + "\n", count: 12).utf8)
                    .write(to: URL(fileURLWithPath: file))
                let submit = try Program(["submit", file, "--wait"], environment: service.environment())
                try await eventually("some replies") { submit.stdout.split(separator: "\n").count >= 3 }
                submit.signal(SIGINT)
                let outcome = try await submit.outcome()
                #expect(outcome.status == 130, "\(outcome.stderr)")
                let line = try #require(
                    outcome.stderr.split(separator: "\n").last { $0.hasPrefix("seedream-worker submit") }
                )
                let programs = URL(fileURLWithPath: Program.path).deletingLastPathComponent().path
                let rest = try await Program.run(
                    ["-c", String(line)],
                    environment: service.environment(["PATH": "\(programs):/usr/bin:/bin"]),
                    executable: "/bin/sh"
                )
                #expect(rest.status == 0, "\(rest.stderr)")
                let printed = (outcome.stdout + rest.stdout).split(separator: "\n")
                    .compactMap { try? JSONValue(parsing: $0.utf8)["job_id"]?.text }
                #expect(printed.count == 12 && Set(printed).count == 12, "each reply is printed once: \(printed)")
                #expect(try await service.count("accepted") == 12)
            }
        }

        @Test func `a time that has passed is told apart by what is missing`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                let replies = try await service.run(
                    ["submit", "-", "--wait", "--timeout", "1s"],
                    stdin: ServiceFixture.job()
                )
                #expect(replies.status == 1 && replies.stderr.contains("1 without a reply yet"), "\(replies)")
                let silent = try await FaultProxy(target: Int(service.broker.url.port))
                silent.silence(true)
                let url = "amqp://guest:guest@127.0.0.1:\(silent.port)/"
                for command in [["fleet"], ["dead-letters", "list"], ["submit", "-"], ["history"], ["results"]] {
                    let outcome = try await Program.run(
                        command + ["--timeout", "300ms"],
                        environment: service.environment(["SEEDREAM_AMQP_URL": url]),
                        stdin: ServiceFixture.job()
                    )
                    #expect(
                        outcome.status == 69 && outcome.stderr.contains("not done within 300ms"),
                        "\(command): \(outcome)"
                    )
                }
            }
        }

        @Test func `a broker that goes away is told with how to go on`() async throws {
            try await ServiceFixture.with { service in
                let path = try Self.file(30_000)
                _ = try await service.run(["topology", "declare"])
                let proxy = try await FaultProxy(target: Int(service.broker.url.port))
                let submit = try Program(
                    ["submit", path],
                    environment: service.environment([
                        "SEEDREAM_AMQP_URL": "amqp://guest:guest@127.0.0.1:\(proxy.port)/\(service.broker.virtualHost)"
                    ])
                )
                try await eventually("some are published") { try await service.ready("jobs") > 200 }
                try await proxy.close()
                let outcome = try await submit.outcome()
                #expect(outcome.status == 69, "\(outcome.stderr)")
                #expect(outcome.stderr.contains("--resume "))
            }
        }

        @Test func `jobs from a pipe are checked before one is published`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                let good = ServiceFixture.job()
                let refused = try await service.run(["submit", "-"], stdin: "\(good)\n{}\n")
                #expect(refused.status == 1)
                #expect(try await service.ready("jobs") == 0)
                let taken = try await service.run(["submit", "-"], stdin: "\(good)\n\(good)\n")
                #expect(taken.status == 0)
                #expect(try await service.ready("jobs") == 2)
            }
        }

        @Test(.serialized, arguments: ["", "--no-check"])
        func `a pipe under a name is read once`(_ flag: String) async throws {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                let pipe = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
                // A shell gives what it starts in the background an empty stdin.
                let feed = "exec 3<&0; mkfifo '\(pipe)'; cat <&3 >'\(pipe)' &"
                let taken = try await Program.run(
                    ["-c", "\(feed) '\(Program.path)' submit '\(pipe)' \(flag)"],
                    environment: service.environment(),
                    stdin: ServiceFixture.job() + "\n",
                    executable: "/bin/sh"
                )
                #expect(taken.status == 0, "\(taken.stderr)")
                #expect(try await service.ready("jobs") == 1)
            }
        }

        @Test func `two jobs with one id have two replies`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker(["SEEDREAM_WORKER_CONCURRENCY": "1"])
                let jobs = ["one", "two"].map { ServiceFixture.job($0, #","id":"a""#) + "\n" }.joined()
                let outcome = try await service.run(["submit", "-", "--id-field", "id", "--wait"], stdin: jobs)
                #expect(outcome.status == 1)
                #expect(outcome.stdout.split(separator: "\n").count == 2)
                #expect(outcome.stderr.contains("1 submitted, 1 failed (1 job_id_conflict)"), "\(outcome.stderr)")
            }
        }

        @Test func `a fault in an array is told with its element`() async throws {
            let array = "[\(ServiceFixture.job()),{}]"
            let outcome = try await Program.run(["validate", "-"], stdin: array)
            #expect(outcome.stdout.contains("stdin:1: /1/prompt: "))
            let forwarded = try await Program.run(
                ["validate", "-"],
                environment: ["SEEDREAM_POLICY_UNKNOWN_FIELDS": "forward"],
                stdin: ServiceFixture.job("x", #","style":1"#)
            )
            #expect(forwarded.status == 0, "\(forwarded.stderr)")
        }

        @Test(.serialized, arguments: ["", "x", ":", "x:y", "x:-1"])
        func `a wrong --resume is an error of usage`(_ text: String) async throws {
            #expect(try await Program.run(["submit", "x", "--resume", text]).status == 64)
        }
    }
}
