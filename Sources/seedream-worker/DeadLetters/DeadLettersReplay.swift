import AMQP
import ArgumentParser
import EditWorker
import OperatorTools
import SharedValues
import WorkerSettings

extension DeadLetters {
    /// `dead-letters replay`: failed jobs go to their queue again.
    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put failed jobs on their queue again.",
            discussion: """
                Example: seedream-worker dead-letters replay --code retries_exhausted --rate 10/1s

                Each job is published and confirmed before its dead letter is removed. What fails again comes back as a \
                new dead letter. What may have been paid for is left, unless --accept-double-charge is given.
                """
        )

        @Flag(help: "Show what would be replayed, and do nothing.")
        var dryRun = false

        @Option(help: ArgumentHelp("Maximum rate, such as 10/1s.", valueName: "count/time"))
        var rate: String?

        @Flag(help: "Also replay jobs that may have been paid for: those of --unknown and of the code delivery_limit.")
        var acceptDoubleCharge = false

        @OptionGroup
        var flags: DeadLetterFlags

        func validate() throws {
            if let rate {
                guard let limit = RateLimit(rate) else {
                    throw ValidationError("--rate '\(rate)' is not a rate such as 10/1s")
                }
                guard limit.interval <= DeadLetterQueue.longestHold else {
                    throw ValidationError(
                        "--rate '\(rate)' is less than one job in ten minutes; replay single jobs with --job"
                    )
                }
            }
            if flags.unknown, !acceptDoubleCharge, !dryRun {
                throw ValidationError(
                    "each job of --unknown may have been paid for; to pay perhaps twice, add --accept-double-charge"
                )
            }
        }

        func run() async throws {
            let (tally, isInterrupted) = try await Interruption.run {
                var tally = Tally()
                try await flags.walk(for: "replay") { walk, settings in
                    let queue = ByteString(settings.queueName)
                    // Another connection than the walk's, which stops reading while there is enough to do.
                    let connection = try await BrokerSession.open(settings, for: "dead-letters replay")
                    try await connection.selectConfirms()
                    try await replay(walk, options(queue), on: connection, &tally)
                    await connection.close()
                }
                return tally
            }
            Console.error("\(tally.done) \(dryRun ? "would be replayed" : "replayed")\(tally.byCode)")
            if tally.left > 0 {
                Console.error(
                    "\(tally.left) may have been paid for and were left; to pay perhaps twice, add --accept-double-charge"
                )
            }
            if isInterrupted { throw ExitCode(ExitStatus.interrupted) }
            if tally.left > 0, !dryRun { throw ExitCode(ExitStatus.someFailed) }
        }

        private func options(_ queue: ByteString) -> OperatorTools.Replay.Options {
            var options = OperatorTools.Replay.Options(queue: queue)
            options.rate = rate.flatMap { RateLimit($0) }
            options.isDoubtful = flags.unknown
            options.acceptsDoubleCharge = acceptDoubleCharge
            options.isDryRun = dryRun
            return options
        }

        private func replay(
            _ walk: DeadLetterQueue,
            _ options: OperatorTools.Replay.Options,
            on connection: AMQPConnection,
            _ tally: inout Tally
        ) async throws {
            var progress = ProgressLine(
                dryRun ? "seen" : "replayed",
                total: flags.isFiltered ? flags.limit : walk.count
            )
            var counted = tally
            let replay = OperatorTools.Replay(walk, over: connection, options) { event in
                switch event {
                case .replayed(let letter):
                    counted.count(letter)
                    progress.show(counted.done)
                case .left: counted.left += 1
                }
            }
            defer { tally = counted }
            do {
                try await replay.run(flags.filter, limit: flags.limit)
            } catch {
                progress.clear()
                Console.error("\(counted.done) replayed\(counted.byCode); all others are where they were")
                guard let refusal = error as? OperatorTools.Replay.Refusal else { throw error }
                Console.error("seedream-worker: \(refusal)")
                throw ExitCode(ExitStatus.unavailable)
            }
            progress.clear()
        }
    }
}
