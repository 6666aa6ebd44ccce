import ArgumentParser
import JSON
import OperatorTools

extension DeadLetters {
    /// `dead-letters export`: the failed jobs as NDJSON.
    struct Export: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the failed jobs as lines of JSON, to be corrected and submitted.",
            discussion: """
                Example: seedream-worker dead-letters export --code invalid_job > jobs.ndjson

                Each line is the job with one member more, dead_letter, which tells why it failed. After a correction: \
                seedream-worker submit jobs.ndjson (which takes the member out and keeps the job's id).
                """
        )

        @OptionGroup
        var flags: DeadLetterFlags<BrokerSettings>

        var limits: CommandLimits { flags.limits }

        func run() async throws {
            var tally = Tally()
            try await flags.walk(for: "export") { walk, _ in
                try await walk.each(flags) { letter in
                    Output.result(String(decoding: letter.exported.encoded(), as: UTF8.self))
                    tally.count(letter)
                    return true
                }
            }
            Output.error("\(tally.done) exported\(tally.byCode)")
        }
    }
}
