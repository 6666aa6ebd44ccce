import EditWorker
import Foundation
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// What `doctor` says of a service that is broken, as the guide shows it.
    @Suite(.timeLimit(.minutes(10)))
    struct DoctorDrillTests {
        /// What is broken, and the settings with which `doctor` is asked.
        private struct Row {
            let state: String
            let said: [String]
        }

        private static let guide = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("deploy/guides/doctor.md")

        @Test func `the guide's table is what doctor says`() async throws {
            var rows: [Row] = []
            try await PrivateBroker.with { broker in
                let node = broker.nodes[0]
                let host = "127.0.0.1:\(node.port)"
                try await broker.control(node, "add_user", "visitor", "secret")
                try await broker.control(node, "set_permissions", "visitor", "^$", ".*", ".*")
                try await broker.control(node, "add_user", "stranger", "secret")
                try await broker.control(node, "set_permissions", "stranger", "^$", ".*", ".*")
                try await ServiceFixture.with(on: TestBroker(at: node.urlText)) { service in
                    func look(_ state: String, _ settings: [String: String] = [:]) async throws {
                        let token = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
                        try Data(ServiceFixture.token.utf8).write(to: token)
                        defer { try? FileManager.default.removeItem(at: token) }
                        var variables = service.environment(["SEEDREAM_API_TOKEN_FILE": token.path])
                        variables["SEEDREAM_API_TOKEN"] = nil
                        let outcome = try await Program.run(["doctor"], environment: variables.merging(settings) { $1 })
                        let said = Self.findings(outcome.stdout)
                        #expect(
                            (outcome.status == 1) == said.contains { $0.hasPrefix("fault") },
                            "\(state): \(outcome)"
                        )
                        let faults = said.filter { $0.hasPrefix("fault") }
                        #expect(faults.count <= 1, "\(state): one cause is one fault: \(faults)")
                        rows.append(Row(state: state, said: said.map(Self.comparable)))
                    }

                    // Without a ledger there is nothing to be at odds with.
                    try await look("The broker is down", ["SEEDREAM_AMQP_URL": "amqp://127.0.0.1:1/"])
                    try await look(
                        "The broker's password is wrong",
                        ["SEEDREAM_AMQP_URL": "amqp://guest:wrong@\(host)/"]
                    )
                    try await look(
                        "The virtual host is wrong",
                        ["SEEDREAM_AMQP_URL": "amqp://guest:guest@\(host)/other"]
                    )
                    try await look("The API cannot be reached", ["SEEDREAM_API_BASE_URL": "http://127.0.0.1:1"])
                    try await look("The token's file is missing", ["SEEDREAM_API_TOKEN_FILE": "/nowhere/token"])
                    try await look(
                        "The journal's directory is missing",
                        ["SEEDREAM_JOURNAL_STORE": "sqlite:/nowhere/journal"]
                    )
                    try await look(
                        "The user may not declare, and the queues are missing",
                        ["SEEDREAM_AMQP_URL": "amqp://visitor:secret@\(host)/", "SEEDREAM_QUEUE_TOPOLOGY": "verify"]
                    )
                    _ = try await service.run(["topology", "declare"])
                    try await look("All is well, and nothing was ever submitted")
                    try await look(
                        "The user may not declare, and is to",
                        ["SEEDREAM_AMQP_URL": "amqp://visitor:secret@\(host)/"]
                    )
                    try await service.publish([ServiceFixture.job()])
                    try await look("Jobs wait, and there is no worker")
                    let worker = try await service.startWorker()
                    _ = try await service.broker.take(1, from: "jobs.results")
                    #expect(try await service.run(["fleet", "pause", "--reason", "lunch"]).status == 0)
                    try await eventually("no consumer of jobs") {
                        try await service.broker.withConnection {
                            try await $0.inspect(queue: "jobs").consumerCount == 0
                        }
                    }
                    try await service.publish([ServiceFixture.job()]) { $1.messageID = "waits" }
                    try await look("The fleet is paused, and a job waits")
                    #expect(try await service.run(["fleet", "resume"]).status == 0)
                    _ = try await service.broker.take(1, from: "jobs.results")
                    worker.signal(SIGTERM)
                    _ = try await worker.outcome()
                    let refused = try service.launchWorker([
                        "SEEDREAM_API_TOKEN": "refused", "SEEDREAM_GATE_MIN_DELAY": "60s",
                    ])
                    try await service.publish([ServiceFixture.job()]) { $1.messageID = "refused" }
                    try await refused.waitForStderr("the gate is closed")
                    try await eventually("the others know") { try await service.run(["fleet"]).stdout.contains("auth") }
                    let token = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
                    try Data("refused".utf8).write(to: token)
                    defer { try? FileManager.default.removeItem(at: token) }
                    try await look("The API refuses the token", ["SEEDREAM_API_TOKEN_FILE": token.path])
                    try await look("The API refuses the worker's token, and this one is good")
                    refused.signal(SIGTERM)
                    _ = try await refused.outcome()
                    try await service.publish([ServiceFixture.job()], to: "jobs.dlq")
                    try await service.publish(["{}"], to: "jobs.results")
                    _ = try await service.broker.take(Int(service.ready("jobs.retry.1s")), from: "jobs.retry.1s")
                    _ = try await service.broker.take(Int(service.ready("jobs")), from: "jobs")
                    try await look("Jobs have failed, and a reply was not read")
                    _ = try await service.broker.take(1, from: "jobs.dlq")
                    _ = try await service.broker.take(1, from: "jobs.results")
                    try await broker.control(node, "set_vm_memory_high_watermark", "0.00001")
                    try await look("The broker has a memory alarm")
                    try await broker.control(node, "set_vm_memory_high_watermark", "0.5")
                    let other = ["SEEDREAM_AMQP_URL": "amqp://stranger:secret@\(host)/"]
                    #expect(
                        try await service.run(["fleet", "pause"], other).status == 0,
                        "nobody lives who would not hear it"
                    )
                    try await look("A user writes to the ledger whose records do not count")
                }
            }
            let table = rows.flatMap { row in
                ["### \(row.state)", "", "```text"] + (row.said.isEmpty ? ["ok"] : row.said) + ["```", ""]
            }
            let text = try String(contentsOf: Self.guide, encoding: .utf8)
            let mark = "<!-- What follows is what doctor has said. -->\n\n"
            let start = try #require(text.range(of: mark)).upperBound
            let expected = String(text[..<start]) + table.joined(separator: "\n")
            if ProcessInfo.processInfo.environment["SEEDREAM_TEST_RENEW"] != nil {
                try Data(expected.utf8).write(to: Self.guide)
            }
            #expect(text == expected, "run the test with SEEDREAM_TEST_RENEW=1 to renew the guide")
        }

        /// The warnings and faults, each with what to do in the line after it.
        private static func findings(_ text: String) -> [String] {
            var findings: [String] = []
            for line in text.split(separator: "\n") {
                if line.hasPrefix("warning") || line.hasPrefix("fault") {
                    findings.append(String(line))
                } else if line.contains("→"), !findings.isEmpty, !findings[findings.count - 1].contains("\n") {
                    findings[findings.count - 1] += "\n" + line
                }
            }
            return findings
        }

        /// A finding without what is another at each run.
        private static func comparable(_ text: String) -> String {
            text.replacing(/127\.0\.0\.1:[0-9]{2,}/, with: "127.0.0.1:5672")
                .replacing(/[0-9-]{10}T[0-9:.]{12}Z/, with: "2026-01-31T08:00:00.000Z")
                .replacing(/by [^ ]+@[^ ]+/, with: "by user@host")
                .replacing(/refused.*/) { $0.output.contains("Connection") ? "refused" : $0.output }
        }
    }
}
