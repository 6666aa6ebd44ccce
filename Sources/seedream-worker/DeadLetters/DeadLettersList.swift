import ArgumentParser
import EditJob
import Glibc
import JSON
import OperatorTools
import SharedValues

extension DeadLetters {
    /// `dead-letters list`: a count by code, then a table.
    struct List: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Count the failed jobs by code, and show each in a line.",
            discussion: "Example: seedream-worker dead-letters list --code invalid_job --since 2h"
        )

        @Option(help: "The form of the output: a table, or one JSON object per line.")
        var format = OutputFormat.text

        @OptionGroup
        var flags: DeadLetterFlags<BrokerSettings>

        var limits: CommandLimits { flags.limits }

        /// Lines of the table, without `--limit`.
        private static let usualLimit = 100

        func run() async throws {
            var all = flags
            // The count is of all; the limit is one of lines.
            if format == .text { all.limit = nil }
            try await all.walk(for: "list") { walk, _ in
                switch format {
                case .json:
                    try await walk.each(flags) { letter in
                        Output.result(String(decoding: letter.facts.encoded(), as: UTF8.self))
                        return true
                    }
                case .text:
                    try await table(walk)
                }
            }
        }

        private func table(_ walk: DeadLetterQueue) async throws {
            let now = Timestamp.now
            var counts: [String: Int] = [:]
            var oldest: Timestamp?
            var rows = [["AGE", "JOB", "CODE", "ATTEMPTS", "MESSAGE"]]
            var progress = ProgressLine("read", total: walk.count)
            var read = 0
            try await walk.each(flags, limit: .max) { letter in
                counts[letter.code, default: 0] += 1
                if let failedAt = letter.failedAt { oldest = min(oldest ?? failedAt, failedAt) }
                if rows.count <= flags.limit ?? Self.usualLimit { rows.append(Self.row(letter, now)) }
                read += 1
                progress.show(read)
                return true
            }
            progress.clear()
            let terminal = Terminal(STDOUT_FILENO)
            let total = counts.values.reduce(0, +)
            let byCode = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
                .map { "\($0.value) \(Terminal.plain($0.key))" }
            var heading = "\(total) dead letters\(byCode.isEmpty ? "" : ": " + byCode.joined(separator: ", "))"
            if let oldest {
                heading +=
                    "; the oldest is \(ShortDuration.text(.milliseconds(now.milliseconds - oldest.milliseconds))) old"
            }
            Output.result(terminal.bold(heading))
            guard total > 0 else { return }
            for line in terminal.table(rows) { Output.result(line) }
            if total > rows.count - 1 { Output.result("… and \(total - rows.count + 1) more; see --limit") }
        }

        private static func row(_ letter: DeadLetter, _ now: Timestamp) -> [String] {
            [
                letter.age(at: now).map { ShortDuration.text($0) } ?? "-", Terminal.plain(letter.jobID),
                Terminal.plain(letter.code), letter.attempts.map { "\($0)" } ?? "-", Terminal.plain(letter.message),
            ]
        }
    }
}

extension DeadLetter {
    /// What is known of it, but for the job itself.
    var facts: JSONValue { exported[Self.exportMember] ?? .null }
}
