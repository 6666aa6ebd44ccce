import ArgumentParser
import EditJob
import Glibc
import OperatorTools
import RabbitMQ

extension DeadLetters {
    /// `dead-letters discard`: removes failed jobs for ever.
    struct Discard: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove failed jobs for ever.",
            discussion: """
                Example: seedream-worker dead-letters discard --code invalid_job --since 2h

                On a terminal it asks; elsewhere it needs --yes. To keep a copy, run dead-letters export before.
                """
        )

        @Flag(help: "Discard the whole queue. Without it, say which letters.")
        var all = false

        @Flag(help: "Do not ask for confirmation.")
        var yes = false

        @OptionGroup
        var flags: DeadLetterFlags<BrokerSettings>

        var limits: CommandLimits { flags.limits }

        func validate() throws {
            guard all || flags.isFiltered else {
                throw ValidationError(
                    "say which letters: --code, --job, --since or --limit, or --all for the whole queue"
                )
            }
            if all, flags.isFiltered { throw ValidationError("--all and a filter cannot be used together") }
        }

        func run() async throws {
            // Only what the person was shown: others may have come since.
            let agreed: Set<String>? = yes ? nil : try await confirmed()
            var tally = Tally()
            try await flags.walk(for: "discard") { walk, _ in
                try await walk.each(flags, limit: agreed == nil ? nil : .max) { letter in
                    guard agreed?.contains(letter.mark) ?? true else { return true }
                    try walk.remove(letter)
                    tally.count(letter)
                    return true
                }
            }
            Output.error("\(tally.done) discarded\(tally.byCode)")
        }

        /// Asks, and tells how many the person has agreed to.
        private func confirmed() async throws -> Set<String> {
            guard isatty(STDIN_FILENO) == 1, Output.isInteractive else {
                throw ValidationError("not a terminal: pass --yes to confirm")
            }
            var tally = Tally()
            var marks: Set<String> = []
            try await flags.walk(for: "discard") { walk, _ in
                try await walk.each(flags) { letter in
                    tally.count(letter)
                    marks.insert(letter.mark)
                    return true
                }
            }
            guard tally.done > 0 else {
                Output.error("nothing to discard")
                throw ExitCode.success
            }
            Output.error("\(tally.done) dead letters\(tally.byCode)")
            Output.ask("Type \(tally.done) to remove them for ever: ")
            guard readLine() == "\(tally.done)" else {
                Output.error("nothing was discarded")
                throw ExitCode(ExitStatus.someFailed)
            }
            return marks
        }
    }
}
