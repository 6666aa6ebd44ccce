import Foundation
import JSON
import NIOConcurrencyHelpers
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// The journal under the real program: killed workers, and jobs that come twice.
    @Suite(.timeLimit(.minutes(10)))
    struct JournalProgramTests {
        private static let accepted = ScriptedServer.answer(200, #"{"task_id":"5c1d4f0e-0b1c-4c2a-9f6e-0a1b2c3d4e5f"}"#)

        private static func freshStore() -> String {
            "sqlite:"
                + FileManager.default.temporaryDirectory.appendingPathComponent("journal-\(UUID().uuidString)").path
        }

        @Test func `2000 jobs through 20 kills are neither lost nor paid twice`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "100ms"]) { service in
                let settings = [
                    "SEEDREAM_JOURNAL_STORE": Self.freshStore(), "SEEDREAM_WORKER_CONCURRENCY": "50",
                    "SEEDREAM_POLICY_GATEWAY_ERROR": "park",
                ]
                var workers = [
                    try await service.startWorker(settings), try await service.startWorker(settings, consumers: 2),
                ]
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 2000))
                for kill in 1...20 {
                    // At an instant that no one chose: somewhere on the way to the next share of the replies.
                    let instant = UInt32(kill * 2000 / 22 + Int.random(in: 0..<40))
                    try await service.broker.withConnection { connection in
                        try await eventually("\(instant) replies", within: .seconds(60)) {
                            try await connection.inspect(queue: "jobs.results").messageCount >= instant
                        }
                    }
                    let victim = workers.remove(at: Int.random(in: 0..<2))
                    victim.signal(SIGKILL)
                    _ = try await victim.outcome()
                    workers.append(try service.launchWorker(settings))
                }
                // Some replies come twice, so only their jobs tell when all have ended.
                var replies = try await service.broker.takeReplies(ofJobs: 2000, from: "jobs.results")
                // The last one may still be starting, and would not know the signal yet.
                try await service.broker.withConnection { connection in
                    try await eventually("both take jobs") {
                        try await connection.inspect(queue: "jobs").consumerCount == 2
                    }
                }
                for worker in workers { worker.signal(SIGTERM) }
                for worker in workers {
                    let outcome = try await worker.outcome()
                    #expect(outcome.status == 0, "\(outcome.stderr.suffix(2000))")
                }
                #expect(try await service.ready("jobs") == 0)
                replies += try await service.broker.take(
                    Int(try await service.ready("jobs.results")),
                    from: "jobs.results"
                )
                let byJob = Dictionary(grouping: replies) { $0.json["job_id"]?.text ?? "" }
                #expect(byJob.count == 2000)
                for (job, replies) in byJob {
                    // A reply may come again, but it says the same.
                    #expect(Set(replies.map { $0.json["task_id"]?.text ?? "" }).count == 1, "\(job)")
                }
                let submitted = byJob.values.count { $0.contains { $0.json["status"]?.text == "submitted" } }
                let unknown = byJob.values.count { $0.contains { $0.json["charged"]?.text == "maybe" } }
                #expect(submitted + unknown == 2000)
                #expect(unknown > 0, "20 kills among 100 requests in flight must leave some in doubt")
                let seen = try await service.statistics()
                #expect(seen["duplicates"] == .integer(0))
                #expect(seen["accepted"]?.exactInteger ?? 0 >= Int64(submitted))
            }
        }

        /// The two replicas of a test that share no journal, and what the first one was killed with.
        private static func endAfterKill(
            _ journals: [String],
            policy: String = "park",
            _ change: @escaping @Sendable (Int, inout MessageProperties) -> Void = { _, _ in }
        ) async throws -> (replies: [JSONValue], requests: Int, unknown: UInt32) {
            let server = try await ScriptedServer { index, _ in index < 3 ? .hang : .send(Self.accepted) }
            var result: (replies: [JSONValue], requests: Int, unknown: UInt32) = ([], 0, 0)
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                func settings(_ journal: String) -> [String: String] {
                    ["SEEDREAM_JOURNAL_STORE": journal, "SEEDREAM_POLICY_NO_ANSWER": policy]
                }
                let first = try await service.startWorker(settings(journals[0]))
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 3), change)
                try await eventually("all are under way") { server.requests.count == 3 }
                _ = try service.launchWorker(settings(journals[1]))
                first.signal(SIGKILL)
                _ = try await first.outcome()
                let replies = try await service.broker.take(3, from: "jobs.results")
                result = (replies.map(\.json), server.requests.count, try await service.ready("jobs.unknown"))
            }
            try await server.close()
            return result
        }

        @Test(.serialized, arguments: ["memory", "sqlite"], ["named", "anonymous"])
        func `a killed replica's jobs are not submitted by another that cannot know of them`(
            _ store: String,
            _ id: String
        ) async throws {
            let journals = store == "memory" ? [store, store] : [Self.freshStore(), Self.freshStore()]
            let end = try await Self.endAfterKill(journals) { index, properties in
                properties.messageID = id == "named" ? ByteString("job-\(index)") : nil
            }
            #expect(end.requests == 3)
            #expect(end.replies.allSatisfy { $0["error"]?["code"]?.text == "outcome_unknown" }, "\(end.replies)")
            #expect(end.replies.allSatisfy { $0["charged"]?.text == "maybe" })
            #expect(end.unknown == 3)
        }

        @Test(.serialized, arguments: ["park", "retry"])
        func `a killed replica's jobs without an id no ledger knows, whatever it covers`(_ policy: String) async throws
        {
            let end = try await Self.endAfterKill(["ledger", "ledger"], policy: policy) { _, properties in
                properties.messageID = nil
            }
            #expect(end.requests == (policy == "park" ? 3 : 6))
            let isMarked = end.replies.allSatisfy { $0["may_be_duplicate"] == .boolean(true) }
            let isUnknown = end.replies.allSatisfy { $0["error"]?["code"]?.text == "outcome_unknown" }
            #expect(policy == "park" ? isUnknown : isMarked, "\(end.replies)")
        }

        @Test(.serialized, arguments: ["named", "anonymous"])
        func `where the policy says so they are, and the reply has the mark`(_ id: String) async throws {
            let end = try await Self.endAfterKill(["memory", "memory"], policy: "retry") { index, properties in
                properties.messageID = id == "named" ? ByteString("job-\(index)") : nil
            }
            #expect(end.requests == 6)
            #expect(end.replies.allSatisfy { $0["status"]?.text == "submitted" }, "\(end.replies)")
            #expect(end.replies.allSatisfy { $0["may_be_duplicate"] == .boolean(true) })
        }

        @Test func `a disk that is full closes the gate, and costs no job`() async throws {
            let store = Self.freshStore()
            try await ServiceFixture.with { service in
                // No file of the worker may grow beyond 64 KiB, and the signal that says so is ignored, as on a full disk.
                let limited = try Program(
                    ["-c", "trap '' XFSZ; ulimit -f 64; exec '\(Program.path)' run"],
                    environment: service.environment([
                        "SEEDREAM_JOURNAL_STORE": store, "SEEDREAM_GATE_MAX_DELAY": "1s",
                        "SEEDREAM_RETRY_DELAYS": "100ms",
                    ]),
                    executable: "/bin/bash"
                )
                defer { limited.signal(SIGKILL) }
                try await limited.waitForStderr("consuming")
                try await service.publish((0..<3000).map { _ in ServiceFixture.job() })
                try await limited.waitForStderr("the gate is closed")
                #expect(limited.stderr.contains("make room on the disk"), "\(limited.stderr.suffix(2000))")
                limited.signal(SIGTERM)
                _ = try await limited.outcome()
                // Room again: with the same file all come to their end, and none twice.
                _ = try await service.startWorker(["SEEDREAM_JOURNAL_STORE": store])
                let replies = try await service.broker.takeReplies(ofJobs: 3000, from: "jobs.results")
                let failed = replies.map(\.json).filter { $0["status"]?.text != "submitted" }
                #expect(failed.isEmpty, "\(failed.prefix(3)) \(limited.stderr.suffix(3000))")
                #expect(try await service.count("accepted") == 3000)
                #expect(try await service.count("duplicates") == 0)
                #expect(try await service.ready("jobs.dlq") == 0)
            }
        }

        @Test(.serialized, arguments: ["memory", "sqlite", "ledger"])
        func `a job that is published twice is submitted once and answered twice`(_ store: String) async throws {
            try await ServiceFixture.with { service in
                let journal = store == "sqlite" ? Self.freshStore() : store
                _ = try await service.startWorker(["SEEDREAM_JOURNAL_STORE": journal])
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 20)) { $1.messageID = "same" }
                let replies = try await service.broker.take(20, from: "jobs.results")
                #expect(Set(replies.compactMap { $0.json["task_id"]?.text }).count == 1)
                #expect(replies.count { $0.json["duplicate_of_delivery"] == .boolean(true) } == 19)
                #expect(try await service.count("requests") == 1)
            }
        }

        @Test func `two workers of one journal submit a job once`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "300ms"]) { service in
                let settings = [
                    "SEEDREAM_JOURNAL_STORE": Self.freshStore(), "SEEDREAM_WORKER_CONCURRENCY": "1",
                    "SEEDREAM_RETRY_DELAYS": "100ms",
                ]
                for number in 1...2 { _ = try await service.startWorker(settings, consumers: number) }
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 4)) { $1.messageID = "same" }
                let replies = try await service.broker.take(4, from: "jobs.results")
                #expect(Set(replies.compactMap { $0.json["task_id"]?.text }).count == 1)
                #expect(try await service.count("requests") == 1)
            }
        }

        @Test func `the same id with another content is a conflict`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker(["SEEDREAM_WORKER_CONCURRENCY": "1"])
                try await service.publish([ServiceFixture.job("one")]) { $1.messageID = "same" }
                _ = try await service.broker.take(1, from: "jobs.results")
                try await service.publish([ServiceFixture.job("two")]) { $1.messageID = "same" }
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["error"]?["code"]?.text == "job_id_conflict")
                #expect(try await service.ready("jobs.dlq") == 1)
                #expect(try await service.count("requests") == 1)
            }
        }

        @Test func `a parked job is submitted again only with leave, once a replay`() async throws {
            let server = try await ScriptedServer { index, _ in index == 0 ? .reset : .send(Self.accepted) }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker()
                func end(_ headers: FieldTable?) async throws -> JSONValue {
                    try await service.publish([ServiceFixture.job()]) { $1.headers = headers }
                    return try #require(try await service.broker.take(1, from: "jobs.results").first).json
                }
                #expect(try await end(nil)["charged"]?.text == "maybe")
                #expect(try await end(nil)["error"]?["code"]?.text == "outcome_unknown")
                #expect(server.requests.count == 1)
                let leave: FieldTable = ["x-accept-double-charge": .boolean(true), "x-replay-count": .int32(1)]
                let replayed = try await end(leave)
                #expect(replayed["status"]?.text == "submitted")
                #expect(replayed["may_be_duplicate"] == .boolean(true))
                let again = try await end(leave)
                #expect(again["duplicate_of_delivery"] == .boolean(true))
                #expect(again["may_be_duplicate"] == .boolean(true))
                #expect(server.requests.count == 2)
            }
        }

        @Test func `with --fail-fast a journal that cannot be opened ends the worker`() async throws {
            let outcome = try await Program.run(
                ["run", "--fail-fast"],
                environment: ["SEEDREAM_API_TOKEN": "t", "SEEDREAM_JOURNAL_STORE": "sqlite:/no/such/directory/journal"]
            )
            #expect(outcome.status == 69)
            #expect(outcome.stderr.contains("/no/such/directory/journal"))
            #expect(outcome.stderr.contains("check that"))
        }

        @Test func `a journal that cannot be opened closes the gate until it can`() async throws {
            let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
            try await ServiceFixture.with { service in
                let worker = try await service.startWorker([
                    "SEEDREAM_JOURNAL_STORE": "sqlite:\(directory.path)/journal", "SEEDREAM_GATE_MAX_DELAY": "1s",
                ])
                try await worker.waitForStderr("the journal cannot be used")
                try await service.publish((0..<20).map { _ in ServiceFixture.job() })
                try await worker.waitForStderr("the gate is closed")
                #expect(try await service.count("requests") == 0)
                try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
                try await service.waitFor(20, in: "jobs.results")
                #expect(try await service.count("accepted") == 20)
                #expect(try await service.ready("jobs.dlq") == 0)
            }
        }
    }
}
