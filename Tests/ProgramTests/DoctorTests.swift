import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// `doctor`: what it finds, and that it changes nothing.
    @Suite(.timeLimit(.minutes(10)))
    struct DoctorTests {
        private static func findings(_ outcome: Program.Outcome) throws -> [JSONValue] {
            guard case .array(let findings) = try JSONValue(parsing: outcome.stdout.utf8) else { return [] }
            return findings
        }

        private static func faults(_ outcome: Program.Outcome) throws -> Set<String> {
            let faults = try findings(outcome).filter { $0["status"]?.text == "fault" }
            return Set(faults.compactMap { $0["check"]?.text })
        }

        @Test func `where all is well it says so, costs nothing and changes nothing`() async throws {
            try await ServiceFixture.with { service in
                let before = try await service.run(["doctor"])
                #expect(before.status == 0, "\(before.stdout)")
                #expect(before.stdout.contains("not there yet, a worker declares them: "), "\(before.stdout)")
                #expect(before.stdout.contains("the API takes it"), "\(before.stdout)")
                await #expect(throws: AMQPError.self) { try await service.ready("jobs") }
                _ = try await service.run(["topology", "declare"])
                try await service.publish([ServiceFixture.job()])
                let after = try await service.run(["doctor", "--format", "json"])
                #expect(after.status == 0)
                #expect(try Self.findings(after).contains { $0["message"]?.text == "jobs: 1 ready, 0 consumers" })
                #expect(try await service.count("requests") == 0)
                #expect(!(before.stdout + after.stdout).contains(ServiceFixture.token))
                #expect(!(before.stdout + after.stdout).contains("guest:"))
            }
        }

        @Test func `every fault is named with what to do`() async throws {
            try await ServiceFixture.with { service in
                let broken = [
                    "SEEDREAM_API_BASE_URL": "http://127.0.0.1:1", "SEEDREAM_JOURNAL_STORE": "sqlite:/nowhere/journal",
                    "SEEDREAM_QUEUE_TOPOLOGY": "verify", "SEEDREAM_WORKER_CONCURRENCY": "10000",
                ]
                let outcome = try await service.run(["doctor", "--format", "json"], broken)
                #expect(outcome.status == 1)
                #expect(try Self.faults(outcome).isSuperset(of: ["api", "journal", "queue"]))
                for finding in try Self.findings(outcome) where finding["status"]?.text == "fault" {
                    #expect(finding["remedy"]?.text?.isEmpty == false, "\(finding)")
                }
                let name = try await service.run(
                    ["doctor", "--format", "json"],
                    ["SEEDREAM_API_BASE_URL": "https://no-such-name.invalid"]
                )
                #expect(name.stdout.contains("there is no address for no-such-name.invalid"))
                let settings = try await service.run(["doctor"], ["SEEDREAM_QUEUE_TYPE": "quorums"])
                #expect(settings.status == 1)
                #expect(settings.stdout.contains("did you mean quorum?"))
                let broker = try await service.run(["doctor"], ["SEEDREAM_AMQP_URL": "amqp://guest:wrong@127.0.0.1:1/"])
                #expect(broker.status == 1)
                #expect(!broker.stdout.contains("wrong"))
            }
        }

        @Test func `a memory that is shorter than a delivery may be away is told`() async throws {
            try await ServiceFixture.with { service in
                let outcome = try await service.run(["doctor"], ["SEEDREAM_JOURNAL_RETENTION": "30m"])
                #expect(outcome.stdout.contains("journal.retention is 30m"), "\(outcome.stdout)")
                let enough = try await service.run(["doctor"], ["SEEDREAM_JOURNAL_RETENTION": "1h"])
                #expect(!enough.stdout.contains("journal.retention is"), "\(enough.stdout)")
            }
        }

        @Test func `a queue with other arguments is told by its argument`() async throws {
            try await ServiceFixture.with { service in
                try await service.broker.withConnection { connection in
                    _ = try await connection.declare(
                        QueueDeclaration(name: "jobs.dlq", arguments: ["x-queue-type": .text("classic")])
                    )
                }
                let outcome = try await service.run(["doctor"])
                #expect(outcome.status == 1)
                #expect(outcome.stdout.contains("x-queue-type"))
                #expect(outcome.stdout.contains("jobs.dlq"))
            }
        }

        @Test func `a certificate that nobody trusts is a fault of the API`() async throws {
            let certificate = try await TestCertificate(for: "DNS:localhost")
            let server = try await ScriptedServer(certificate: certificate) { _, _ in .close }
            try await ServiceFixture.with(apiURL: "https://localhost:\(server.port)") { service in
                let stranger = try await service.run(["doctor"])
                #expect(stranger.stdout.contains("no TLS with localhost:"), "\(stranger.stdout)")
                let known = try await service.run(["doctor"], ["SEEDREAM_API_CA_FILE": certificate.certificatePath])
                #expect(known.stdout.contains("its certificate is good"), "\(known.stdout)")
            }
            // A look at a task is free.
            #expect(server.requests.allSatisfy { $0.path.hasPrefix("/v1/tasks/") })
            try await server.close()
        }
    }
}
