import Foundation
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// The commands on a terminal: width, colour, progress and questions.
    @Suite(.timeLimit(.minutes(10)))
    struct TerminalTests {
        /// Runs a command on a terminal of so many columns, and tells all that it has shown.
        private static func show(
            _ service: ServiceFixture,
            _ command: String,
            columns: Int,
            typing input: String = "",
            _ more: [String: String] = [:]
        ) async throws -> String {
            let line = "stty cols \(columns) -echo; exec '\(Program.path)' \(command)"
            let outcome = try await Program.run(
                ["-qec", line, "/dev/null"],
                environment: service.environment(
                    more.merging(["TERM": "xterm", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"]) { given, _ in given }
                ),
                stdin: input,
                executable: "/usr/bin/script"
            )
            return outcome.stdout.replacingOccurrences(of: "\r\n", with: "\n")
        }

        private static func withLetters(_ count: Int, _ body: (ServiceFixture) async throws -> Void) async throws {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                try await service.publish(
                    Array(repeating: ServiceFixture.job(), count: count),
                    to: "jobs.dlq"
                ) { _, properties in
                    properties.headers = [
                        "x-error-code": .text("invalid_job"), "x-attempts": .int32(0),
                        "x-error-message": .text("\u{1B}[31mred\u{1B}[0m " + String(repeating: "long ", count: 40)),
                    ]
                }
                try await body(service)
            }
        }

        @Test func `a table fits the terminal, and nothing in a letter can take it over`() async throws {
            try await Self.withLetters(3) { service in
                let shown = try await Self.show(service, "dead-letters list", columns: 60)
                #expect(shown.contains("\u{1B}[1m"))
                let plain = try await Self.show(service, "dead-letters list", columns: 60, ["NO_COLOR": "1"])
                let table = plain.split(separator: "\n").filter { $0.contains("job-") }
                #expect(table.count == 3)
                #expect(table.allSatisfy { $0.count == 60 && $0.hasSuffix("…") }, "\(table)")
                #expect(plain.contains("\\u{1b}[31m"))
                #expect(!plain.replacingOccurrences(of: "\r\u{1B}[K", with: "").contains("\u{1B}"))
            }
        }

        @Test func `progress has a bar, a rate and the time that is left`() async throws {
            try await Self.withLetters(150) { service in
                let shown = try await Self.show(service, "dead-letters replay --rate 100/1s", columns: 80)
                let lines = shown.components(separatedBy: "\r\u{1B}[K")
                #expect(lines.count > 5)
                let bars = lines.filter { $0.hasPrefix("[") }
                #expect(
                    bars.contains { $0.contains("of 150 replayed, ") && $0.contains("/s, ") && $0.contains(" left") }
                )
                #expect(bars.allSatisfy { $0.count < 80 })
                #expect(lines.last == "150 replayed: 150 invalid_job\n")
            }
        }

        @Test(.serialized, arguments: [("3\n", "3 discarded: 3 invalid_job"), ("yes\n", "nothing was discarded")])
        func `discarding asks for the number`(_ answer: String, _ end: String) async throws {
            try await Self.withLetters(3) { service in
                let shown = try await Self.show(service, "dead-letters discard --all", columns: 80, typing: answer)
                #expect(shown.contains("Type 3 to remove them for ever: "))
                #expect(shown.contains(end))
                try await service.waitFor(end.hasPrefix("3") ? 0 : 3, in: "jobs.dlq")
            }
        }
    }
}
