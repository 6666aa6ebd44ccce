import EditJob
import Foundation
import JSON
import OperatorTools
import RabbitMQ
import SharedValues
import TestSupport
import Testing

extension ProgramTests {
    /// The failed jobs, as an operator handles them.
    @Suite(.timeLimit(.minutes(10)))
    struct DeadLetterTests {
        /// Puts letters into a queue as workers would have.
        private static func fill(
            _ service: ServiceFixture,
            _ count: Int,
            queue: String = "jobs.dlq",
            code: @escaping @Sendable (Int) -> String = { _ in "retries_exhausted" }
        ) async throws {
            _ = try await service.run(["topology", "declare"])
            try await service.publish(
                (0..<count).map { ServiceFixture.job("number \($0)") },
                to: queue
            ) { index, properties in
                properties.headers = [
                    "x-job-id": .text("job-\(index)"), "x-error-code": .text(code(index)), "x-attempts": .int32(5),
                    "x-error-message": .text("it did not work"), "x-error-charged": .text("no"),
                    "x-failed-at": .text("2026-01-02T03:04:05.000Z"), "x-original-routing-key": .text("jobs"),
                    "x-tenant": .text("acme"), "x-http-status": .int32(503),
                    "x-death": .array([.table(["count": .int64(1), "queue": .text("elsewhere")])]),
                ]
            }
        }

        private static func ids(_ letters: [Delivery]) -> [String] {
            letters.map { $0.properties.messageID?.text ?? "" }
        }

        @Test func `looking shows all and changes nothing`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 5000) { $0 % 5 == 0 ? "invalid_job" : "retries_exhausted" }
                let list = try await service.run(["dead-letters", "list"])
                #expect(list.status == 0)
                let lines = list.stdout.split(separator: "\n")
                #expect(
                    lines[0].hasPrefix("5000 dead letters: 4000 retries_exhausted, 1000 invalid_job; the oldest is ")
                )
                // The counts, the header, the usual number of lines, and how many more there are.
                #expect(lines.count == 103)
                #expect(lines.last == "… and 4900 more; see --limit")
                #expect(!list.stdout.contains("\t") && !list.stdout.contains("\u{1B}"))
                let some = try await service.run(["dead-letters", "list", "--code", "invalid_job", "--format", "json"])
                let rows = some.stdout.split(separator: "\n").compactMap { try? JSONValue(parsing: $0.utf8) }
                #expect(rows.count == 1000)
                #expect(rows.allSatisfy { $0["code"]?.text == "invalid_job" && $0["attempts"]?.exactInteger == 5 })
                let all = try await service.run(["dead-letters", "list", "--format", "json"])
                let order = all.stdout.split(separator: "\n")
                    .map { (try? JSONValue(parsing: $0.utf8))?["job_id"]?.text }
                let since = try await service.run(["dead-letters", "list", "--since", "1h"])
                #expect(since.stdout.hasPrefix("0 dead letters"))
                let show = try await service.run(["dead-letters", "show", "job-4321"])
                #expect(show.status == 0)
                #expect(show.stdout.contains("x-tenant") && show.stdout.contains("it did not work"))
                #expect(!show.stdout.contains("number 4321"))
                let body = try await service.run(["dead-letters", "show", "job-4321", "--body"])
                #expect(body.stdout.contains("number 4321"))
                let nothing = try await service.run(["dead-letters", "show", "job-9999"])
                #expect(nothing.status == 1)
                #expect(nothing.stderr.contains("--unknown"))
                let letters = try await service.broker.take(5000, from: "jobs.dlq")
                let isInOrder = Self.ids(letters) == order
                #expect(isInOrder)
            }
        }

        @Test func `a replay puts the original job on its queue`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 10) { $0 < 5 ? "invalid_job" : "retries_exhausted" }
                let dry = try await service.run(["dead-letters", "replay", "--code", "invalid_job", "--dry-run"])
                #expect(dry.stderr == "5 would be replayed: 5 invalid_job\n")
                try await service.waitFor(10, in: "jobs.dlq")
                let replay = try await service.run(["dead-letters", "replay", "--code", "invalid_job", "--limit", "4"])
                #expect(replay.status == 0)
                #expect(replay.stderr == "4 replayed: 4 invalid_job\n")
                let jobs = try await service.broker.take(4, from: "jobs")
                #expect(Self.ids(jobs) == ["job-0", "job-1", "job-2", "job-3"])
                let first = try #require(jobs.first)
                #expect(String(decoding: first.body, as: UTF8.self) == ServiceFixture.job("number 0"))
                let headers = try #require(first.properties.headers)
                let names = Set(headers.entries.map(\.name.text))
                    .subtracting([
                        "x-delivery-count", "x-acquired-count",
                    ])
                #expect(names == ["x-job-id", "x-original-routing-key", "x-tenant", "x-replay-count"])
                #expect(headers["x-replay-count"]?.integer == 1)
                let left = try await service.broker.take(6, from: "jobs.dlq")
                #expect(Self.ids(left) == (4..<10).map { "job-\($0)" })
            }
        }

        @Test func `500 letters through ten kills of the replay have 500 replies`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "5ms"]) { service in
                try await Self.fill(service, 500)
                _ = try await service.startWorker(["SEEDREAM_WORKER_CONCURRENCY": "10"])
                // So few per second that a machine which is held up for seconds does not replay all of them before the last kill.
                let arguments = ["dead-letters", "replay", "--rate", "30/1s"]
                for _ in 1...10 {
                    let before = try await service.count("requests")
                    let replay = try Program(arguments, environment: service.environment())
                    try await eventually("some more are replayed") {
                        try await service.count("requests") >= before + 10
                    }
                    replay.signal(SIGKILL)
                    _ = try await replay.outcome()
                }
                try await eventually("the broker has taken the rest back") { try await service.ready("jobs.dlq") > 0 }
                let last = try await service.run(["dead-letters", "replay"])
                #expect(last.status == 0)
                let replies = try await service.broker.takeReplies(ofJobs: 500, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" })
                #expect(try await service.count("accepted") == 500)
                #expect(try await service.count("duplicates") == 0)
                try await service.waitFor(0, in: "jobs.dlq")
                try await service.waitFor(0, in: "jobs")
            }
        }

        @Test func `what may have been paid for is replayed only with leave`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 3, queue: "jobs.unknown") { _ in "outcome_unknown" }
                let refused = try await service.run(["dead-letters", "replay", "--unknown"])
                #expect(refused.status == 64)
                #expect(refused.stderr.contains("--accept-double-charge"))
                let replay = try await service.run(["dead-letters", "replay", "--unknown", "--accept-double-charge"])
                #expect(replay.stderr == "3 replayed: 3 outcome_unknown\n")
                let jobs = try await service.broker.take(3, from: "jobs")
                #expect(jobs.allSatisfy { $0.properties.headers?["x-accept-double-charge"] == .boolean(true) })
            }
        }

        @Test func `a replay to a queue that is not there removes nothing`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 5)
                try await service.broker.withConnection { try await $0.delete(queue: "jobs") }
                let replay = try await service.run(["dead-letters", "replay"])
                #expect(replay.status == 69)
                #expect(replay.stderr.contains("topology declare"))
                try await service.waitFor(5, in: "jobs.dlq")
            }
        }

        @Test func `a rate is kept`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 300)
                let start = ContinuousClock.now
                let replay = try await service.run(["dead-letters", "replay", "--rate", "100/1s"])
                let seconds = (ContinuousClock.now - start) / .seconds(1)
                #expect(replay.status == 0)
                // 299 intervals of 10 ms, the start of the program, and a moment for the last acknowledgements.
                #expect(seconds >= 2.99, "\(seconds)")
                #expect(try await .seconds(seconds) < paced(.seconds(9)), "\(seconds)")
                try await service.waitFor(300, in: "jobs")
            }
        }

        @Test func `Ctrl-C at a replay tells what was done, and the rest is where it was`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 300)
                let replay = try Program(
                    ["dead-letters", "replay", "--rate", "20/1s"],
                    environment: service.environment()
                )
                try await eventually("some are replayed") { try await service.ready("jobs") >= 5 }
                replay.signal(SIGINT)
                let outcome = try await replay.outcome()
                #expect(outcome.status == 130)
                let done = try await service.ready("jobs")
                #expect(outcome.stderr == "\(done) replayed: \(done) retries_exhausted\n")
                try await service.waitFor(300 - done, in: "jobs.dlq")
            }
        }

        @Test func `what is held for long is put back, once each`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 40) { $0 % 2 == 0 ? "even" : "odd" }
                let walk = try await DeadLetterQueue(
                    "jobs.dlq",
                    at: AMQPURL(parsing: service.broker.urlText),
                    options: AMQPConnectionOptions(name: "test"),
                    longestHold: .zero
                )
                var removed: [String] = []
                while let letter = try await walk.next() {
                    guard letter.code == "even" else { continue }
                    try walk.remove(letter)
                    removed.append(letter.jobID)
                    #expect(walk.isStale)
                    try await walk.putBack()
                }
                await walk.ending.finish()
                #expect(Set(removed) == Set(stride(from: 0, to: 40, by: 2).map { "job-\($0)" }) && removed.count == 20)
                let left = try await service.broker.take(20, from: "jobs.dlq")
                #expect(Set(Self.ids(left)) == Set(stride(from: 1, to: 40, by: 2).map { "job-\($0)" }))
            }
        }

        @Test func `discarding is hard to do by mistake`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 10) { $0 < 3 ? "invalid_job" : "retries_exhausted" }
                for arguments in [[], ["--yes"], ["--code", "invalid_job"], ["--all", "--code", "x", "--yes"]] {
                    let outcome = try await service.run(["dead-letters", "discard"] + arguments)
                    #expect(outcome.status == 64, "\(arguments)")
                }
                try await service.waitFor(10, in: "jobs.dlq")
                let some = try await service.run(["dead-letters", "discard", "--code", "invalid_job", "--yes"])
                #expect(some.stderr == "3 discarded: 3 invalid_job\n")
                try await service.waitFor(7, in: "jobs.dlq")
                let rest = try await service.run(["dead-letters", "discard", "--all", "--yes"])
                #expect(rest.stderr == "7 discarded: 7 retries_exhausted\n")
                try await service.waitFor(0, in: "jobs.dlq")
            }
        }

        @Test func `what is exported can be corrected and submitted`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                let bad = #"{"image_urls":[],"prompt":"make it blue"}"#
                try await service.publish([bad, "no json"])
                try await service.waitFor(2, in: "jobs.dlq")
                let exported = try await service.run(["dead-letters", "export"])
                #expect(exported.status == 0)
                let lines = exported.stdout.split(separator: "\n").map(String.init)
                    .sorted { $0.contains("job-0") && !$1.contains("job-0") }
                #expect(lines.count == 2)
                let first = try #require(try lines.first.map { try JSONValue(parsing: $0.utf8) })
                #expect(first["dead_letter"]?["job_id"]?.text == "job-0")
                #expect(first["dead_letter"]?["code"]?.text == "invalid_job")
                #expect(try JSONValue(parsing: lines[1].utf8)["dead_letter"]?["body"]?.text == "no json")
                let corrected = lines[0].replacingOccurrences(of: "[]", with: #"["https://example.com/a.png"]"#)
                #expect(try await service.run(["validate", "-"], stdin: lines[0]).status == 1)
                #expect(try await service.run(["validate", "-"], stdin: corrected).status == 0)
                let submitted = try await service.run(["submit", "-", "--wait"], stdin: corrected)
                #expect(submitted.status == 0, "\(submitted.stderr)")
                #expect(try JSONValue(parsing: submitted.stdout.utf8)["job_id"]?.text == "job-0")
            }
        }

        @Test func `a job at its limit of deliveries is told, and replayed with leave only`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                try await service.publish([ServiceFixture.job()])
                // Lost once more than the queue's limit of deliveries allows: from 4.3 on only that counts.
                for _ in 0...20 {
                    try await service.broker.withConnection { connection in
                        let consumer = try await connection.consume(from: "jobs", prefetch: 1)
                        for await _ in consumer.deliveries { break }
                    }
                }
                try await service.waitFor(1, in: "jobs.undelivered")
                let worker = try await service.startWorker()
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["error"]?["code"]?.text == "delivery_limit")
                // Each worker that had it may have submitted it, and the ledger is younger than that.
                #expect(reply.json["charged"]?.text == "maybe")
                worker.signal(SIGTERM)
                _ = try await worker.outcome()
                try await service.waitFor(1, in: "jobs.unknown")
                let list = try await service.run(["dead-letters", "list", "--unknown", "--since", "1h"])
                #expect(list.stdout.hasPrefix("1 dead letters: 1 delivery_limit"))
                let show = try await service.run(["dead-letters", "show", "--unknown"])
                #expect(show.stdout.contains("maybe"), "\(show.stdout)")
                let refused = try await service.run(["dead-letters", "replay", "--unknown"])
                #expect(refused.status == 64 && refused.stderr.contains("--accept-double-charge"))
                let replayed = try await service.run([
                    "dead-letters", "replay", "--unknown", "--accept-double-charge",
                ])
                #expect(replayed.status == 0, "\(replayed.stderr)")
                let job = try #require(try await service.broker.take(1, from: "jobs").first)
                let names = Set((job.properties.headers ?? [:]).entries.map(\.name.text))
                #expect(names.isSuperset(of: ["x-replay-count", "x-accept-double-charge"]), "\(names)")
                #expect(names.isDisjoint(with: ["x-death", "x-error-code", "x-attempts"]), "\(names)")
            }
        }

        @Test func `a replay with leave for the doubtful gives none to the others`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 2) { $0 == 0 ? "retries_exhausted" : "delivery_limit" }
                let replayed = try await service.run(["dead-letters", "replay", "--accept-double-charge"])
                #expect(replayed.status == 0)
                let jobs = try await service.broker.take(2, from: "jobs")
                #expect(jobs.allSatisfy { $0.properties.headers?["x-accept-double-charge"] == nil })
            }
        }

        @Test func `a job is corrected, checked and replayed as another one`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.broker.withConnection { _ = try await $0.declare(QueueDeclaration(name: "back")) }
                let bad = ServiceFixture.job("make it blue", #","max_images":9"#)
                try await service.publish([bad, bad]) { index, properties in
                    properties.replyTo = "back"
                    if index == 1 { properties.correlationID = "order 7" }
                }
                try await service.waitFor(2, in: "jobs.dlq")
                _ = try await service.broker.take(2, from: "back")
                for (set, said) in [
                    ("/max_images=7", "/max_images: max_images is 7"), ("/image_urls/5=x", "no place /image_urls/5"),
                ] {
                    let refused = try await service.run(["dead-letters", "replay", "--set", set])
                    #expect(refused.status == 1)
                    #expect(refused.stderr.contains(said), "\(refused.stderr)")
                    #expect(refused.stderr.contains("2 cannot be corrected so"))
                }
                for wrong in ["prompt=x", "/prompt", "/a~2=1", "=1"] {
                    #expect(try await service.run(["dead-letters", "replay", "--set", wrong]).status == 64)
                }
                try await service.waitFor(2, in: "jobs.dlq")
                let replayed = try await service.run([
                    "dead-letters", "replay", "--set", "/max_images=4", "--set", "/prompt=make it \"green\"",
                    "--set", "/image_urls/-=https://example.com/b.png",
                ])
                #expect(replayed.status == 0, "\(replayed.stderr)")
                let replies = try await service.broker.take(2, from: "back")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" })
                #expect(Set(replies.compactMap(\.properties.correlationID)) == ["job-0", "order 7"])
                let ids = Set(replies.compactMap { $0.json["job_id"]?.text })
                #expect(ids.count == 2 && ids.allSatisfy { !$0.hasPrefix("job-") })
                let told = replayed.stdout.split(separator: "\n")
                    .compactMap { $0.split(separator: " ").last.map(String.init) }
                #expect(Set(told) == ids && replayed.stdout.contains("job-0 is now "), "\(replayed.stdout)")
                // The history tells both as one story.
                let history = try await service.run(["history", "--job", "job-0", "--format", "json"])
                let lines = history.stdout.split(separator: "\n").compactMap { try? JSONValue(parsing: $0.utf8) }
                let corrected = lines.filter { $0["edited_from"]?.text == "job-0" }
                #expect(corrected.count == 1 && ids.contains(corrected[0]["job_id"]?.text ?? ""), "\(history.stdout)")
                let table = try await service.run(["history", "--job", corrected[0]["job_id"]?.text ?? ""])
                #expect(table.stdout.contains("(corrected from job-0)"), "\(table.stdout)")
                try await service.waitFor(0, in: "jobs.dlq")
            }
        }

        @Test func `a correction that is repeated after an interruption is not paid twice`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.publish([ServiceFixture.job("make it blue", #","max_images":9"#)])
                try await service.waitFor(1, in: "jobs.dlq")
                _ = try await service.broker.take(1, from: "jobs.results")
                // A replay that was killed before the removal has left the letter, and its job on the queue.
                let letter = try #require(try await service.broker.take(1, from: "jobs.dlq").first)
                for round in 0..<2 {
                    try await service.broker.withConnection { connection in
                        let copy = OutboundMessage(
                            routingKey: "jobs.dlq",
                            properties: letter.properties,
                            body: letter.body,
                            mandatory: true
                        )
                        _ = try await connection.publish(copy)
                    }
                    try await service.waitFor(1, in: "jobs.dlq")
                    let replayed = try await service.run(["dead-letters", "replay", "--set", "/max_images=4"])
                    #expect(replayed.status == 0, "round \(round): \(replayed.stderr)")
                }
                let replies = try await service.broker.take(2, from: "jobs.results")
                #expect(replies.allSatisfy { $0.json["status"]?.text == "submitted" })
                #expect(Set(replies.compactMap { $0.json["task_id"]?.text }).count == 1)
            }
        }

        @Test func `a job is corrected in an editor`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                // The second has its id, and is another job, which must stay as it is.
                let second = ServiceFixture.job("make it green", #","max_images":9"#)
                try await service.publish([ServiceFixture.job("make it blue", #","max_images":9"#) + "\n"])
                try await service.waitFor(1, in: "jobs.dlq")
                try await service.publish([second])
                try await service.waitFor(2, in: "jobs.dlq")
                func replay(_ editor: String) async throws -> Program.Outcome {
                    try await service.run(
                        ["dead-letters", "replay", "--edit", "--job", "job-0"],
                        ["EDITOR": editor]
                    )
                }
                #expect(try await service.run(["dead-letters", "replay", "--edit"]).status == 64)
                let unchanged = try await replay("true")
                #expect(unchanged.status == 1)
                #expect(unchanged.stderr.contains("nothing was changed"))
                let invalid = try await replay("sed -i s/9/8/")
                #expect(invalid.status == 1)
                #expect(invalid.stderr.contains("/max_images: max_images is 8"), "\(invalid.stderr)")
                let kept = try #require(invalid.stderr.firstMatch(of: /Your text is in (\S+)\.\n/)?.1)
                #expect(try String(contentsOfFile: String(kept), encoding: .utf8).contains(#""max_images":8"#))
                try FileManager.default.removeItem(atPath: String(kept))
                try await service.waitFor(2, in: "jobs.dlq")
                // The newline that editors put at the end is no correction.
                let finished = try await replay("f() { echo >> \"$1\"; }; f")
                #expect(finished.stderr.contains("nothing was changed"), "\(finished.stderr)")
                let good = try await replay("sed -i s/9/2/")
                #expect(good.status == 0, "\(good.stderr)")
                let replies = try await service.broker.take(3, from: "jobs.results")
                #expect(replies.count { $0.json["status"]?.text == "submitted" } == 1)
                let left = try await service.broker.take(1, from: "jobs.dlq")
                #expect(left.map { String(decoding: $0.body, as: UTF8.self) } == [second])
            }
        }

        @Test func `an exported job takes its reply address along, and its doubt`() async throws {
            let server = try await ScriptedServer { index, _ in
                index == 0
                    ? .reset : .send(ScriptedServer.answer(200, #"{"task_id":"5c1d4f0e-0b1c-4c2a-9f6e-0a1b2c3d4e5f"}"#))
            }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker()
                try await service.broker.withConnection { _ = try await $0.declare(QueueDeclaration(name: "back")) }
                try await service.publish([ServiceFixture.job()]) { _, properties in
                    properties.replyTo = "back"
                    properties.correlationID = "order 7"
                }
                try await service.waitFor(1, in: "jobs.unknown")
                _ = try await service.broker.take(1, from: "back")
                let exported = try await service.run(["dead-letters", "export", "--unknown"])
                let facts = try JSONValue(parsing: exported.stdout.utf8)["dead_letter"]
                #expect(facts?["charged"]?.text == "maybe")
                #expect(facts?["reply_to"]?.text == "back")
                #expect(facts?["correlation_id"]?.text == "order 7")
                for arguments in [["submit", "-"], ["submit", "-", "--no-check"]] {
                    let refused = try await service.run(arguments, stdin: exported.stdout)
                    #expect(refused.status == 1)
                    #expect(refused.stderr.contains("--accept-double-charge"), "\(refused.stderr)")
                }
                #expect(server.requests.count == 1)
                let submitted = try await service.run(
                    ["submit", "-", "--accept-double-charge"],
                    stdin: exported.stdout
                )
                #expect(submitted.status == 0, "\(submitted.stderr)")
                let reply = try #require(try await service.broker.take(1, from: "back").first)
                #expect(reply.properties.correlationID == "order 7")
                #expect(reply.json["status"]?.text == "submitted")
                #expect(reply.json["job_id"]?.text == "job-0")
                #expect(reply.json["may_be_duplicate"] == .boolean(true))
                #expect(server.requests.count == 2)
                // One consent is for one submission.
                let again = try await service.run(["submit", "-", "--accept-double-charge"], stdin: exported.stdout)
                #expect(again.status == 0)
                let told = try #require(try await service.broker.take(1, from: "back").first)
                #expect(told.json["duplicate_of_delivery"] == .boolean(true))
                #expect(server.requests.count == 2)
            }
            try await server.close()
        }

        @Test(
            .serialized,
            arguments: [
                ("3650d", true), ("2026-01-02T03:04:04Z", true), ("2026-01-02T04:04:05.5+01:00", false),
                ("2026-01-02T03:04:06Z", false), ("2026-01-02T04:04:04.000+01:00", true), ("1h", false),
            ]
        )
        func `since is a duration or a time`(_ since: String, _ isIncluded: Bool) async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 1)
                let list = try await service.run(["dead-letters", "list", "--since", since])
                #expect(list.stdout.hasPrefix(isIncluded ? "1 dead" : "0 dead"), "\(list.stdout)\(list.stderr)")
            }
        }

        @Test func `letters that somebody else has taken are not waited for`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 10)
                let walk = try await DeadLetterQueue(
                    "jobs.dlq",
                    at: AMQPURL(parsing: service.broker.urlText),
                    options: AMQPConnectionOptions(name: "test"),
                    prefetch: 4
                )
                #expect(try await walk.next()?.jobID == "job-0")
                _ = try await service.broker.take(6, from: "jobs.dlq")
                var met = 1
                while try await walk.next() != nil { met += 1 }
                #expect(met == 4)
                #expect(walk.missing == 6)
                let other = try await service.run(["dead-letters", "list"])
                #expect(other.stderr.contains("another consumer reads jobs.dlq too"))
                await walk.ending.finish()
            }
        }

        @Test func `a replay whose connection is cut replays no letter that it cannot remove`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 400)
                let proxy = try await FaultProxy(target: Int(service.broker.url.port))
                let url = "amqp://guest:guest@127.0.0.1:\(proxy.port)/\(service.broker.virtualHost)"
                let replay = try Program(
                    ["dead-letters", "replay", "--rate", "100/1s"],
                    environment: service.environment(["SEEDREAM_AMQP_URL": url])
                )
                try await eventually("some are replayed") { try await service.ready("jobs") >= 30 }
                try await proxy.close()
                let outcome = try await replay.outcome()
                #expect(outcome.status == 69, "\(outcome.stderr)")
                let done = try await service.ready("jobs")
                // A tenth of a second's jobs may be on both queues, as after a kill.
                try await eventually("the rest is back") {
                    let left = try await service.ready("jobs.dlq")
                    return left + done >= 400 && left + done <= 420
                }
            }
        }

        @Test func `an export that cannot be written is a failure`() async throws {
            try await ServiceFixture.with { service in
                try await Self.fill(service, 3)
                let outcome = try await Program.run(
                    ["-c", "'\(Program.path)' dead-letters export > /dev/full"],
                    environment: service.environment(),
                    executable: "/bin/sh"
                )
                #expect(outcome.status == 74)
                #expect(outcome.stderr.contains("cannot write the output"))
            }
        }

        @Test func `the guide's session is what happens`() async throws {
            try await ServiceFixture.with { service in
                let failedAt = Timestamp(milliseconds: Timestamp.now.milliseconds - 3 * 3_600_000 - 60_000).description
                _ = try await service.startWorker()
                for (range, queue, code) in [
                    (1...30, "jobs.dlq", "retries_exhausted"), (31...38, "jobs.dlq", "invalid_job"),
                    (39...40, "jobs.unknown", "outcome_unknown"),
                ] {
                    let bad = code == "invalid_job" ? #","max_images":9"# : ""
                    let jobs = range.map { ServiceFixture.job("number \($0)", bad) }
                    try await service.publish(jobs, to: queue) { index, properties in
                        let id = "order-\(range.lowerBound + index)"
                        properties.messageID = ByteString(id)
                        properties.headers = [
                            "x-job-id": .text(id), "x-error-code": .text(code), "x-failed-at": .text(failedAt),
                            "x-error-charged": .text(queue == "jobs.dlq" ? "no" : "maybe"), "x-attempts": .int32(5),
                        ]
                    }
                }
                let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
                try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
                let programs = URL(fileURLWithPath: Program.path).deletingLastPathComponent().path
                var commands = 0
                for (command, firstLine) in try GuideSession.read("dead-letters.md") {
                    let outcome = try await Program.run(
                        ["-c", "cd '\(directory.path)' && { \(command); } 2>&1"],
                        environment: service.environment(["PATH": "\(programs):/usr/bin:/bin"]),
                        executable: "/bin/sh"
                    )
                    #expect(outcome.status == 0, "\(command): \(outcome.stdout)")
                    let shown = outcome.stdout.split(separator: "\n").first.map(String.init)
                    #expect(shown == firstLine, "\(command)")
                    commands += 1
                }
                #expect(commands == 14)
                // 30, one of the two, and the eight that were corrected.
                try await eventually("all are submitted") { try await service.count("accepted") == 39 }
                try await service.waitFor(1, in: "jobs.unknown")
            }
        }
    }
}
