import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// Jobs that an operator calls back.
    @Suite(.timeLimit(.minutes(10)))
    struct CancelTests {
        private static func lines(_ ids: some Sequence<String>) -> String {
            ids.map { #"{"id":"\#($0)","image_urls":["https://example.com/a.png"],"prompt":"make it blue"}"# }
                .joined(separator: "\n")
        }

        private static func pause(_ service: ServiceFixture) async throws {
            #expect(try await service.run(["fleet", "pause"]).status == 0)
            try await eventually("no consumer of jobs") {
                try await service.broker.withConnection { try await $0.inspect(queue: "jobs").consumerCount == 0 }
            }
        }

        @Test func `what is cancelled while it waits ends with a reply and a letter, and is not submitted`()
            async throws
        {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                _ = try await service.startWorker(consumers: 2)
                try await service.publish([ServiceFixture.job()]) { $1.messageID = "done" }
                let done = try #require(try await service.broker.take(1, from: "jobs.results").first)
                let task = try #require(done.json["task_id"]?.text)
                try await Self.pause(service)
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 30)) { $1.priority = UInt8($0) }
                let ids = (0..<20).map { "job-\($0)" }
                let look = try await service.run(["cancel", "--dry-run", "done"] + ids)
                #expect(look.status == 0 && look.stderr == "20 would be cancelled, 1 too late\n", "\(look)")
                let outcome = try await service.run(["cancel", "--reason", "wrong price", "done"] + ids)
                #expect(outcome.status == 1 && outcome.stderr == "20 cancelled, 1 too late\n", "\(outcome)")
                #expect(outcome.stdout == "done: too late, it was submitted: task \(task)\n")
                #expect(try await service.run(["fleet", "resume"]).status == 0)
                let replies = try await service.broker.take(30, from: "jobs.results")
                let cancelled = replies.filter { $0.json["error"]?["code"]?.text == "cancelled" }
                #expect(Set(cancelled.compactMap { $0.json["job_id"]?.text }) == Set(ids))
                for reply in cancelled {
                    #expect(reply.json["charged"]?.text == "no" && reply.json["attempts"] == .integer(0))
                    let message = reply.json["error"]?["message"]?.text ?? ""
                    #expect(message.contains("cancelled by ") && message.contains("wrong price"), "\(message)")
                }
                let letters = try await service.broker.take(20, from: "jobs.dlq")
                #expect(
                    letters.allSatisfy { $0.header("x-error-code") == "cancelled" && $0.properties.priority != nil }
                )
                #expect(try await service.count("accepted") == 11)
            }
        }

        @Test func `a replay, or --again, submits a cancelled job after all, once`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await Self.pause(service)
                let submitted = try await service.run(
                    ["submit", "-", "--id-field", "id"],
                    stdin: Self.lines(["a", "b", "c"])
                )
                #expect(submitted.status == 0, "\(submitted)")
                let cancelled = try await service.run(
                    ["cancel", "--from", "-", "--id-field", "id"],
                    stdin: Self.lines(["a", "b", "c"])
                )
                #expect(cancelled.status == 0 && cancelled.stderr == "3 cancelled\n", "\(cancelled)")
                #expect(try await service.run(["fleet", "resume"]).status == 0)
                _ = try await service.broker.take(3, from: "jobs.results")
                // The same id is still not wanted.
                let refused = try await service.run(["submit", "-", "--id-field", "id"], stdin: Self.lines(["b"]))
                #expect(refused.status == 0)
                let told = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(told.json["error"]?["code"]?.text == "cancelled")
                // A job of that id that is wrong may still wait: it is another one.
                try await Self.pause(service)
                try await service.publish([ServiceFixture.job("make it wrong")]) { $1.messageID = "b" }
                let again = try await service.run(
                    ["submit", "-", "--id-field", "id", "--again"],
                    stdin: Self.lines(["b"])
                )
                #expect(again.status == 0, "\(again)")
                #expect(try await service.run(["fleet", "resume"]).status == 0)
                let ends = try await service.broker.take(2, from: "jobs.results")
                let wrong = ends.filter { ["cancelled", "job_id_conflict"].contains($0.json["error"]?["code"]?.text) }
                #expect(wrong.count == 1 && ends.count { $0.json["status"]?.text == "submitted" } == 1)
                try await service.waitFor(5, in: "jobs.dlq")
                let replay = try await service.run(["dead-letters", "replay", "--job", "a"])
                #expect(replay.status == 0, "\(replay)")
                let replayed = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(replayed.json["status"]?.text == "submitted" && replayed.json["may_be_duplicate"] == nil)
                #expect(try await service.count("accepted") == 2)
                // What was cancelled and nobody has asked for again, still is.
                try await service.publish([ServiceFixture.job()]) { $1.messageID = "c" }
                let last = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(last.json["error"]?["code"]?.text == "cancelled")
            }
        }

        @Test func `four workers and an order to cancel all that waits agree on every job`() async throws {
            let count = TestSize.choose(quick: 2500, usual: 2500, full: 10_000)
            try await ServiceFixture.with { service in
                let more = ["SEEDREAM_FLEET_RATE_LIMIT": "20/1s", "SEEDREAM_WORKER_CONCURRENCY": "5"]
                for number in 1...4 { _ = try await service.startWorker(more, consumers: number) }
                try await service.publish(Array(repeating: ServiceFixture.job(), count: count))
                try await eventually("some are submitted") { try await service.count("accepted") > 10 }
                let outcome = try await service.run(["cancel", "--queued", "--reason", "wrong"])
                #expect(outcome.status == 1 || outcome.status == 0, "\(outcome)")
                let late = Set(
                    outcome.stdout.split(separator: "\n")
                        .compactMap { $0.split(separator: ":").first.map { String($0) } }
                )
                let before = try await service.count("accepted")
                let replies = try await service.broker.take(count, from: "jobs.results")
                let byStatus = Dictionary(grouping: replies) {
                    $0.json["error"]?["code"]?.text ?? $0.json["status"]?.text ?? ""
                }
                #expect(Set(replies.compactMap { $0.json["job_id"]?.text }).count == count, "each has one reply")
                #expect(Set(byStatus.keys) == ["submitted", "cancelled"], "\(byStatus.mapValues(\.count))")
                let accepted = try await service.count("accepted")
                #expect(accepted == Int64(byStatus["submitted"]?.count ?? 0))
                // A job that a worker had was not in the queue; of those that were, only the late ones went out.
                #expect(
                    accepted - before <= Int64(late.count + 20),
                    "\(before) before, \(accepted) then, \(late.count) late"
                )
                try await service.waitFor(UInt32(byStatus["cancelled"]?.count ?? 0), in: "jobs.dlq")
                #expect(try await service.ready("jobs") == 0)
                #expect(try await service.ready("jobs.unknown") == 0)
            }
        }

        @Test
        func `all that waits is cancelled, also for a ledger that no worker has read, and jobs without an id stay`()
            async throws
        {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 12)) {
                    if $0 >= 10 { $1.messageID = nil }
                }
                try await service.publish([ServiceFixture.job()], to: "jobs.retry.30s") { $1.messageID = "waits" }
                // What a worker has said of a job stays with it.
                try await service.publish([ServiceFixture.job()]) {
                    $1.messageID = "doubtful"
                    $1.headers = ["x-in-doubt": .boolean(true), "x-delivered-before": .boolean(true)]
                }
                let look = try await service.run(["cancel", "--queued", "--dry-run"])
                #expect(
                    look.status == 0 && look.stdout.contains("jobs: 13\n")
                        && look.stdout.contains("jobs.retry.30s: 1\n")
                )
                let outcome = try await service.run(["cancel", "--queued"])
                #expect(outcome.status == 0, "\(outcome)")
                #expect(outcome.stderr == "12 cancelled, 2 without a message_id left in the queue\n")
                #expect(try await service.ready("jobs") == 13)
                #expect(try await service.ready("jobs.retry.30s") == 1)
                _ = try await service.startWorker()
                let replies = try await service.broker.take(14, from: "jobs.results")
                let cancelled = replies.filter { $0.json["error"]?["code"]?.text == "cancelled" }
                let free = cancelled.filter { $0.json["charged"]?.text == "no" }.compactMap { $0.json["job_id"]?.text }
                #expect(Set(free) == Set((0..<10).map { "job-\($0)" } + ["waits"]) && free.count == 11)
                #expect(cancelled.count == 12, "what was in doubt may have cost: \(cancelled.map(\.json))")
                #expect(try await service.count("accepted") == 2)
                #expect(try await service.ready("jobs.unknown") == 1)
            }
        }

        @Test func `kills between the effects of a cancelled job leave one end each`() async throws {
            try await ServiceFixture.with { service in
                var worker = try await service.startWorker()
                try await Self.pause(service)
                let count = 600
                try await service.publish(Array(repeating: ServiceFixture.job(), count: count))
                let ids = (0..<count).map { "job-\($0)" }.joined(separator: "\n")
                #expect(try await service.run(["cancel", "--file", "-"], stdin: ids).status == 0)
                #expect(try await service.run(["fleet", "resume"]).status == 0)
                for told in [50, 200, 400] {
                    try await eventually("\(told) are told") { try await service.ready("jobs.results") >= UInt32(told) }
                    worker.signal(SIGKILL)
                    _ = try await worker.outcome()
                    worker = try await service.startWorker()
                }
                try await eventually("all are told") { try await service.ready("jobs.results") >= UInt32(count) }
                try await eventually("the queue is empty") { try await service.ready("jobs") == 0 }
                worker.signal(SIGTERM)
                #expect(try await worker.outcome().status == 0)
                let replies = try await service.broker.take(Int(service.ready("jobs.results")), from: "jobs.results")
                let told = Dictionary(grouping: replies) { $0.json["job_id"]?.text ?? "" }
                #expect(told.count == count)
                #expect(replies.allSatisfy { $0.json["error"]?["code"]?.text == "cancelled" })
                // What a killed worker had in flight may be told once more.
                #expect(replies.count - count <= 3 * 50, "\(replies.count) replies")
                let letters = try await service.broker.take(Int(service.ready("jobs.dlq")), from: "jobs.dlq")
                #expect(
                    Set(letters.compactMap { $0.header("x-job-id") }).count == count && letters.count - count <= 150
                )
                #expect(try await service.count("requests") == 0)
            }
        }

        @Test func `the guide's session is what happens`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
                try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
                defer { try? FileManager.default.removeItem(at: directory) }
                let ids = ["order-1", "order-2", "order-3"]
                let file = directory.appendingPathComponent("jobs.ndjson")
                try Data(Self.lines(ids).utf8).write(to: file)
                func submit(_ ids: some Sequence<String>) async throws {
                    let outcome = try await service.run(["submit", "-", "--id-field", "id"], stdin: Self.lines(ids))
                    #expect(outcome.status == 0, "\(outcome)")
                }
                try await submit(ids.prefix(1))
                _ = try await service.broker.take(1, from: "jobs.results")
                let programs = URL(fileURLWithPath: Program.path).deletingLastPathComponent().path
                var commands = 0
                for (command, firstLine) in try GuideSession.read("wrong-jobs.md") {
                    if command.contains(" list ") { try await service.waitFor(2, in: "jobs.dlq") }
                    let outcome = try await Program.run(
                        ["-c", "cd '\(directory.path)' && { \(command); } 2>&1"],
                        environment: service.environment(["PATH": "\(programs):/usr/bin:/bin"]),
                        executable: "/bin/sh"
                    )
                    #expect(outcome.status == (command.contains(" cancel ") ? 1 : 0), "\(command): \(outcome.stdout)")
                    let shown = outcome.stdout.split(separator: "\n").first.map { String($0) }
                    #expect(
                        shown.map(Self.comparable) == firstLine.map(Self.comparable),
                        "\(command): \(outcome.stdout)"
                    )
                    commands += 1
                    if command.contains(" pause ") { try await submit(ids.dropFirst()) }
                }
                #expect(commands == 5)
                try await eventually("the corrected ones are submitted") { try await service.count("accepted") == 3 }
            }
        }

        /// A line without what is another at each run.
        private static func comparable(_ line: String) -> String {
            line.replacing(/[0-9a-f]{8}-[0-9a-f-]{27}/, with: "UUID").replacing(/edited-[0-9a-z]+/, with: "edited-ID")
                .replacing(/order-[23]/, with: "order-N")
                .replacing(/[0-9]+s old/, with: "Ns old")
        }

        @Test func `what cannot be cancelled is said, and then nothing is`() async throws {
            try await ServiceFixture.with { service in
                let none = try await service.run(["cancel"])
                #expect(none.status == 64 && none.stderr.contains("--queued"), "\(none)")
                #expect(try await service.run(["cancel", "--file", "-"], stdin: "\n\n").status == 64)
                let missing = try await service.run(["cancel", "a"])
                #expect(missing.status == 78 && missing.stderr.contains("journal.store=ledger"), "\(missing)")
                let memory = try await service.run(["cancel", "a"], ["SEEDREAM_JOURNAL_STORE": "memory"])
                #expect(memory.status == 78 && memory.stderr.contains("journal.store"), "\(memory)")
                let long = String(repeating: "x", count: 256)
                let lines = try await service.run(["cancel", "--file", "-"], stdin: "a\n\(long)\n")
                #expect(lines.status == 1 && lines.stderr.contains("stdin:2: ") && lines.stderr.contains("nothing was"))
                let jobs = try await service.run(["cancel", "--from", "-"], stdin: Self.lines(["a"]))
                #expect(jobs.status == 1 && jobs.stderr.contains("stdin:1: the job has no id"), "\(jobs)")
            }
        }
    }
}
