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

        @Flag(help: "Say what would be replayed, and do nothing.")
        var dryRun = false

        @Option(help: ArgumentHelp("At most so many jobs in that time, such as 10/1s.", valueName: "count/time"))
        var rate: String?

        @Flag(help: "Also replay jobs that may have been paid for: those of --unknown and of the code delivery_limit.")
        var acceptDoubleCharge = false

        @OptionGroup
        var flags: DeadLetterFlags

        func validate() throws {
            if let rate {
                guard let limit = RateLimit(rate) else {
                    throw ValidationError("--rate '\(rate)' is no rate such as 10/1s")
                }
                guard limit.interval <= DeadLetterQueue.longestHold else {
                    throw ValidationError(
                        "--rate '\(rate)' is less than one in ten minutes; replay single jobs with --job"
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
                    try await replay(walk, to: queue, on: connection, &tally)
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

        private func replay(
            _ walk: DeadLetterQueue,
            to queue: ByteString,
            on connection: AMQPConnection,
            _ tally: inout Tally
        ) async throws {
            let limit = rate.flatMap { RateLimit($0) }
            // With a rate no more on their way than a tenth of a second's: a kill leaves few that were published
            // and are still here.
            let depth = limit.map { max(1, Int(.milliseconds(100) / $0.interval)) } ?? 128
            var progress = ProgressLine(
                dryRun ? "seen" : "replayed",
                total: flags.isFiltered ? flags.limit : walk.count
            )
            var inFlight: [(letter: DeadLetter, publish: Task<PublishResult, any Error>)] = []
            var start = ContinuousClock.now

            func settle(_ number: Int) async throws {
                for _ in 0..<number {
                    let (letter, publish) = inFlight.removeFirst()
                    switch try await publish.value {
                    case .confirmed:
                        try walk.remove(letter)
                        tally.count(letter)
                        progress.show(tally.done)
                    case .returned:
                        throw AMQPError(
                            .notFound,
                            "there is no queue \(queue); start a worker, or run: seedream-worker topology declare"
                        )
                    case .refused:
                        Console.error("seedream-worker: the broker refused a job for \(queue); is the queue full?")
                        throw ExitCode(ExitStatus.unavailable)
                    }
                }
            }

            do {
                try await walk.each(flags) { letter in
                    guard !Task.isCancelled else { return false }
                    let needsConsent = flags.unknown || letter.mayHaveBeenCharged
                    if needsConsent, !acceptDoubleCharge, !flags.unknown {
                        tally.left += 1
                        return true
                    }
                    guard !dryRun else {
                        tally.count(letter)
                        progress.show(tally.done)
                        return true
                    }
                    if let limit {
                        try? await Task.sleep(until: start)
                        guard !Task.isCancelled else { return false }
                        // Even where one took long: the time that was lost is not made up for in a burst.
                        start = max(start + limit.interval, .now - limit.interval)
                    }
                    let message = letter.replayed(to: queue, acceptsDoubleCharge: needsConsent)
                    inFlight.append((letter, connection.startPublishing(message)))
                    if inFlight.count >= depth { try await settle((depth + 1) / 2) }
                    if walk.isStale {
                        try await settle(inFlight.count)
                        try await walk.putBack()
                    }
                    return true
                }
                try await settle(inFlight.count)
            } catch {
                // Those behind the one that failed may be on the queue all the same, and must not be twice.
                for (letter, publish) in inFlight where (try? await publish.value) == .confirmed {
                    if (try? walk.remove(letter)) != nil { tally.count(letter) }
                }
                try? await walk.confirmRemovals()
                progress.clear()
                Console.error("\(tally.done) replayed\(tally.byCode); all others are where they were")
                throw error
            }
            progress.clear()
        }
    }
}
