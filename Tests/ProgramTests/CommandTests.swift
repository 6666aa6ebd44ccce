import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// The commands, as a person types them.
    @Suite(.timeLimit(.minutes(10)))
    struct CommandTests {
        @Test func `every fault of the settings has its line, and the status is 78`() async throws {
            let outcome = try await Program.run(
                ["run"],
                environment: [
                    "SEEDREAM_AMQP_URL": "amqp://u:hunter2@h:x/", "SEEDREAM_QUEUE_TYPE": "quorums",
                    "SEEDREAM_WORKER_CONCURENCY": "5", "SEEDREAM_API_TIMEOUT": "fast", "SEEDREAM_API_TOKEN": "a b",
                ]
            )
            #expect(outcome.status == 78)
            #expect(outcome.stdout.isEmpty)
            let lines = outcome.stderr.split(separator: "\n")
            #expect(lines.count == 5)
            #expect(outcome.stderr.contains("SEEDREAM_QUEUE_TYPE is \"quorums\": did you mean quorum?"))
            #expect(outcome.stderr.contains("did you mean SEEDREAM_WORKER_CONCURRENCY?"))
            #expect(outcome.stderr.contains("SEEDREAM_API_TIMEOUT is \"fast\""))
            #expect(!outcome.stderr.contains("hunter2") && !outcome.stderr.contains("a b"))
        }

        @Test func `without stderr the status is the same`() async throws {
            let outcome = try await Program.run(["-c", "'\(Program.path)' run 2>&-"], executable: "/bin/sh")
            #expect(outcome.status == 78)
        }

        @Test func `run without a token says how to give one, together with all other faults`() async throws {
            let outcome = try await Program.run(["run"], environment: ["SEEDREAM_QUEUE_TYPE": "quorums"])
            #expect(outcome.status == 78)
            #expect(outcome.stderr.contains("SEEDREAM_API_TOKEN_FILE"))
            #expect(outcome.stderr.contains("did you mean quorum?"))
            #expect(outcome.stderr.split(separator: "\n").count == 2)
            // An empty or a refused one is told as what it is, not as missing too.
            let refused = try await Program.run(["run"], environment: ["SEEDREAM_API_TOKEN": "a b"])
            #expect(refused.stderr.split(separator: "\n").count == 1)
            #expect(try await Program.run(["settings"]).status == 0)
        }

        @Test func `settings shows values and sources, and no secret`() async throws {
            let outcome = try await Program.run(
                ["settings", "--format", "json", "--queue-name", "flagged"],
                environment: [
                    "SEEDREAM_API_TOKEN": "hunter2", "SEEDREAM_QUEUE_NAME": "beaten",
                    "SEEDREAM_AMQP_URL": "amqps://me:hunter2@a:1/v,amqp://b",
                ]
            )
            #expect(outcome.status == 0)
            #expect(!outcome.stdout.contains("hunter2"))
            guard case .array(let entries) = try JSONValue(parsing: outcome.stdout.utf8) else {
                Issue.record("\(outcome.stdout)")
                return
            }
            func entry(_ key: String) -> JSONValue? { entries.first { $0["key"]?.text == key } }
            #expect(entry("queue.name")?["value"]?.text == "flagged")
            #expect(entry("queue.name")?["source"]?.text == "flag")
            #expect(entry("api.token")?["value"]?.text == "<redacted>")
            #expect(entry("amqp.url")?["value"]?.text == "amqps://me:<redacted>@a:1/v,amqp://b:5672/")
            #expect(entry("worker.concurrency")?["value"]?.text == "50")
            #expect(entry("worker.concurrency")?["source"]?.text == "default")
        }

        @Test func `every setting has its flag`() async throws {
            let listed = try await Program.run(["settings", "--format", "json"])
            let help = try await Program.run(["settings", "--help"])
            guard case .array(let entries) = try JSONValue(parsing: listed.stdout.utf8) else { return }
            #expect(entries.count > 25)
            for entry in entries {
                let variable = try #require(entry["variable"]?.text)
                let flag =
                    "--" + variable.dropFirst("SEEDREAM_".count).lowercased().replacingOccurrences(of: "_", with: "-")
                #expect(help.stdout.contains(flag), "\(flag)")
            }
            // The worker shows what is set first, and knows all the same what it does not show.
            let run = try await Program.run(["run", "--help"])
            #expect(run.stdout.split(separator: "\n").count { $0.hasPrefix("  -") } <= 24, "\(run.stdout)")
            #expect(run.stdout.contains("--amqp-url") && !run.stdout.contains("--gate-min-delay"))
            let hidden = try await Program.run(["run", "--gate-min-delay", "soon"])
            #expect(hidden.status == 78 && hidden.stderr.contains("\"soon\""), "\(hidden.stderr)")
        }

        @Test(
            .serialized,
            arguments: [["--help"], ["--version"], ["run", "--help"], ["submit", "--help"], ["sandbox", "--help"]]
        )
        func `help and version go to stdout`(_ arguments: [String]) async throws {
            let outcome = try await Program.run(arguments)
            #expect(outcome.status == 0)
            #expect(!outcome.stdout.isEmpty)
            #expect(outcome.stderr.isEmpty)
        }

        @Test(
            .serialized,
            arguments: [
                ["sbmit"], ["run", "--no-such"], ["sandbox", "--fault", "429"], ["sandbox", "--latency", "1"],
                ["submit"],
                ["sandbox", "--fault", "429=60", "--fault", "500=60"], ["submit", "x", "--timeout", "soon"],
            ]
        )
        func `wrong usage ends with 64`(_ arguments: [String]) async throws {
            let outcome = try await Program.run(arguments)
            #expect(outcome.status == 64)
            #expect(!outcome.stderr.isEmpty)
        }

        @Test func `validate names file, line, place and rule`() async throws {
            let jobs = """
                \(ServiceFixture.job())

                {"prompt":"x","image_urls":["ftp://a"]}
                {"prompt":
                """
            let outcome = try await Program.run(["validate", "-"], stdin: jobs)
            #expect(outcome.status == 1)
            let lines = outcome.stdout.split(separator: "\n")
            #expect(lines.count == 2)
            #expect(lines[0].hasPrefix("stdin:3: /image_urls/0: ") && lines[0].hasSuffix(" (url)"))
            #expect(lines[1].hasPrefix("stdin:4: ") && lines[1].hasSuffix(" (malformed_json)"))
            #expect(outcome.stderr.contains("3 jobs, 2 invalid"))
            #expect(try await Program.run(["validate", "-"], stdin: ServiceFixture.job()).status == 0)
        }

        @Test func `jobs come as lines, as an array, or as one object over several lines`() async throws {
            let object = "{\n  \"image_urls\": [\"https://a\"],\n  \"prompt\": \"x\"\n}\n"
            for (text, count) in [(object, 1), ("[\(object),\(object)]", 2), ("[]", 0), ("", 0), ("{}\n{}\n", 2)] {
                let outcome = try await Program.run(["validate", "-"], stdin: text)
                #expect(outcome.stderr.contains("\(count) jobs"), "\(text): \(outcome.stderr)")
            }
        }

        @Test func `submit waits for the replies`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                let jobs = (0..<50).map { ServiceFixture.job("\($0)", #","id":"id-\#($0)""#) }.joined(separator: "\n")
                let outcome = try await service.run(["submit", "-", "--wait", "--id-field", "id"], stdin: jobs)
                #expect(outcome.status == 0, "\(outcome.stderr)")
                let replies = try outcome.stdout.split(separator: "\n").map { try JSONValue(parsing: $0.utf8) }
                #expect(Set(replies.compactMap { $0["job_id"]?.text }) == Set((0..<50).map { "id-\($0)" }))
                #expect(outcome.stderr.contains("50 published, 50 submitted"))
            }
        }

        @Test func `submit publishes nothing where a job is invalid, unless told`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                let jobs = "\(ServiceFixture.job())\n{}\n"
                let refused = try await service.run(["submit", "-", "--wait"], stdin: jobs)
                #expect(refused.status == 1)
                #expect(refused.stderr.contains("stdin:2") && refused.stderr.contains("nothing was published"))
                #expect(try await service.count("requests") == 0)
                let forced = try await service.run(["submit", "-", "--wait", "--no-check"], stdin: jobs)
                #expect(forced.status == 1)
                #expect(forced.stderr.contains("1 submitted, 1 failed (1 invalid_job)"))
            }
        }

        @Test func `submit without a queue, a broker or a login says so`() async throws {
            try await ServiceFixture.with { service in
                let noQueue = try await service.run(["submit", "-"], stdin: ServiceFixture.job())
                #expect(noQueue.status == 1)
                #expect(noQueue.stderr.contains("there is no queue jobs"))
                let down = try await service.run(
                    ["submit", "-"],
                    stdin: ServiceFixture.job(),
                    ["SEEDREAM_AMQP_URL": "amqp://127.0.0.1:1"]
                )
                #expect(down.status == 69)
                #expect(down.stderr.contains("check that the broker runs"))
                let url = service.broker.urlText.replacingOccurrences(of: "guest:guest", with: "guest:hunter2")
                let refused = try await service.run(
                    ["submit", "-"],
                    stdin: ServiceFixture.job(),
                    ["SEEDREAM_AMQP_URL": url]
                )
                #expect(refused.status == 77)
                #expect(refused.stderr.contains("check user and password") && !refused.stderr.contains("hunter2"))
            }
        }

        @Test func `the queues are declared, verified and printed, and a worker agrees with the print`() async throws {
            try await ServiceFixture.with { service in
                let missing = try await service.run(["topology", "verify"])
                #expect(missing.status == 69)
                #expect(missing.stderr.contains("no queue 'jobs.results', no queue 'jobs.dlq'"), "\(missing.stderr)")
                let printed = try await service.run(["topology", "print"])
                // Imported by an operator, so that the declaration finds every queue there already.
                let vhost = service.broker.virtualHost
                try await TestBroker.management("POST", "/api/definitions/\(vhost)", body: printed.stdout)
                #expect(try await service.run(["topology", "verify"]).status == 0)
                let declared = try await service.run(["topology", "declare"])
                #expect(declared.status == 0, "\(declared.stderr)")
                #expect(declared.stdout.split(separator: "\n").count == 15)
                #expect(try await service.run(["submit", "-"], stdin: ServiceFixture.job()).status == 0)
            }
        }

        @Test func `run --fail-fast ends with 69 or 77`() async throws {
            try await TestBroker.withVirtualHost { broker in
                let environment = ["SEEDREAM_API_TOKEN": "t", "SEEDREAM_HTTP_LISTEN": "off"]
                let down = try await Program.run(
                    ["run", "--fail-fast", "--amqp-url", "amqp://127.0.0.1:1"],
                    environment: environment
                )
                #expect(down.status == 69, "\(down.stderr)")
                let url = broker.urlText.replacingOccurrences(of: "guest:guest", with: "guest:hunter2")
                let refused = try await Program.run(
                    ["run", "--fail-fast", "--amqp-url", url],
                    environment: environment
                )
                #expect(refused.status == 77, "\(refused.stderr)")
                #expect(!refused.stderr.contains("hunter2"))
            }
        }

        @Test func `nothing that a worker says has the token or a prompt`() async throws {
            try await ServiceFixture.with(sandbox: ["--fault", "422=30", "--fault", "garbage=20"]) { service in
                let worker = try await service.startWorker([
                    "SEEDREAM_LOG_LEVEL": "trace", "SEEDREAM_POLICY_NO_ANSWER": "park",
                ])
                let jobs =
                    (0..<40).map { ServiceFixture.job("very private words \($0)") } + [
                        "{\"prompt\":\"very private words\"}"
                    ]
                try await service.publish(jobs)
                try await eventually("all have ended") {
                    try await service.ready("jobs.results") == 41
                }
                worker.signal(SIGTERM)
                let outcome = try await worker.outcome()
                #expect(!outcome.stderr.contains("private") && !outcome.stderr.contains(ServiceFixture.token))
                #expect(outcome.stderr.contains("a job was settled"))
                for reply in try await service.broker.take(41, from: "jobs.results") {
                    #expect(!String(decoding: reply.body, as: UTF8.self).contains("private"))
                }
            }
        }
    }
}
