import ArgumentParser
import EditJob
import EditWorker
import NIOConcurrencyHelpers
import OperatorTools
import RabbitMQ
import Settings
import SharedValues

extension DeadLetters {
    /// `dead-letters replay`: failed jobs go to their queue again.
    struct Replay: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put failed jobs on their queue again.",
            discussion: """
                Example: seedream-worker dead-letters replay --code retries_exhausted --rate 10/1s

                Each job is published and confirmed before its dead letter is removed. What fails again comes back as a \
                new dead letter. What may have been paid for is left, unless --accept-double-charge is given.

                A job that is corrected, with --set or --edit, is checked and becomes a new job with an id of its own and \
                the header x-edited-from. It keeps its reply_to and correlation_id.

                A job whose task failed or was lost is submitted anew, which costs money, or with --look-again its task \
                is followed once more, which costs nothing.
                """
        )

        @Flag(help: "Show what would be replayed, and do nothing.")
        var dryRun = false

        @Option(help: ArgumentHelp("Maximum rate, such as 10/1s.", valueName: "count/time"))
        var rate: String?

        @Flag(help: "Also replay jobs that may have been paid for: those of --unknown and of the code delivery_limit.")
        var acceptDoubleCharge = false

        @Flag(help: "Follow the known tasks of the jobs once more, instead of submitting the jobs.")
        var lookAgain = false

        @Option(
            name: .customLong("set"),
            help: ArgumentHelp(
                "Correct each job first: the value at a JSON pointer, such as /prompt=\"Make it blue\". Can be repeated.",
                valueName: "pointer=value"
            )
        )
        var assignments: [String] = []

        @Flag(help: "Correct one job in $EDITOR first: the oldest dead letter with the id that --job gives.")
        var edit = false

        @OptionGroup
        var flags: DeadLetterFlags<ReplaySettings>

        var limits: CommandLimits { flags.limits }

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
            if let wrong = assignments.first(where: { JobCorrection.Assignment($0) == nil }) {
                throw ValidationError("--set '\(wrong)' is not POINTER=VALUE, such as /prompt=\"Make it blue\"")
            }
            if edit, !assignments.isEmpty { throw ValidationError("use either --set or --edit") }
            if edit, flags.job.count != 1 { throw ValidationError("--edit is for one job: name it with --job") }
            if lookAgain, acceptDoubleCharge || edit || !assignments.isEmpty {
                throw ValidationError(
                    "--look-again submits nothing: leave out --accept-double-charge, --set and --edit"
                )
            }
            if flags.unknown, !acceptDoubleCharge, !lookAgain, !dryRun {
                throw ValidationError(
                    "each job of --unknown may have been paid for; to pay perhaps twice, add --accept-double-charge"
                )
            }
        }

        func run() async throws {
            // Before the walk that replays, which holds the letters.
            let correction = edit ? try await edited() : nil
            var tally = Tally()
            try await flags.walk(for: "replay") { walk, settings in
                let queue = ByteString(settings.queueName)
                // Another connection than the walk's, which stops reading while there is enough to do.
                let connection = try await BrokerSession.open(settings, for: "dead-letters replay")
                let publisher = try await connection.makePublisher()
                let requesters = BrokerSession.access(settings, for: "dead-letters replay").inspector
                defer { Task { await requesters.close() } }
                var options = options(queue)
                options.requesters = requesters
                if lookAgain { options.lookQueue = settings.queues.follow }
                options.unknownFields = settings.unknownFields
                options.correction = correction ?? options.correction
                try await replay(walk, options, over: publisher, &tally)
                await connection.close()
            }
            Output.error("\(tally.done) \(dryRun ? "would be replayed" : "replayed")\(tally.byCode)")
            if tally.withoutRequester > 0 {
                Output.error(
                    "\(tally.withoutRequester) had a direct reply-to whose requester is gone: "
                        + "their replies go to the queue of results"
                )
            }
            if tally.noTask > 0 { Output.error("\(tally.noTask) have no known task to look at and were left") }
            if tally.left > 0 {
                Output.error(
                    "\(tally.left) may have been paid for and were left; to pay perhaps twice, add --accept-double-charge"
                )
            }
            if tally.invalid > 0 { Output.error("\(tally.invalid) cannot be corrected so and were left") }
            guard CommandEnd.cause == nil else { return }
            if tally.invalid > 0 || tally.left > 0 || tally.noTask > 0, !dryRun {
                throw ExitCode(ExitStatus.someFailed)
            }
        }

        /// One letter is edited, even if several have that job id.
        private var limit: Int? { edit ? 1 : flags.limit }

        private func options(_ queue: ByteString) -> OperatorTools.Replay.Options {
            var options = OperatorTools.Replay.Options(queue: queue)
            options.rate = rate.flatMap { RateLimit($0) }
            options.isDoubtful = flags.unknown
            options.acceptsDoubleCharge = acceptDoubleCharge
            options.isDryRun = dryRun
            let assignments = assignments.compactMap { JobCorrection.Assignment($0) }
            if !assignments.isEmpty { options.correction = .set(assignments) }
            return options
        }

        /// What a person makes of the one job in an editor.
        private func edited() async throws -> JobCorrection {
            var body: [UInt8]?
            var unknownFields = UnknownFieldPolicy.reject
            try await flags.walk(for: "replay") { walk, settings in
                unknownFields = settings.unknownFields
                try await walk.each(flags, limit: 1) { letter in
                    body = letter.delivery.body
                    return false
                }
            }
            guard let body else {
                Output.error("seedream-worker: no such dead letter\(flags.unknown ? "" : "; see also --unknown")")
                throw ExitCode(ExitStatus.someFailed)
            }
            let file = try EditedFile(body)
            guard let text = try CommandEnd.lendingTerminal(file.edit) else {
                Output.error("nothing was changed, and nothing is replayed")
                throw ExitCode(ExitStatus.someFailed)
            }
            let correction = JobCorrection.replace(body, by: text)
            do throws(JobCorrection.Fault) {
                _ = try correction.applied(to: body, unknownFields: unknownFields)
            } catch {
                for line in error.description.split(separator: "\n") { Output.error(Terminal.plain(String(line))) }
                Output.error("The job is invalid and stays where it is. Your text is in \(file.keep()).")
                throw ExitCode(ExitStatus.someFailed)
            }
            return correction
        }

        private func replay(
            _ walk: DeadLetterQueue,
            _ options: OperatorTools.Replay.Options,
            over publisher: Publisher,
            _ tally: inout Tally
        ) async throws {
            var progress = ProgressLine(
                dryRun ? "seen" : "replayed",
                total: flags.isFiltered ? limit : walk.count
            )
            let done = NIOLockedValueBox(tally)
            CommandEnd.report {
                let tally = done.withLockedValue { $0 }
                return [
                    "\(tally.done) replayed\(tally.byCode), and perhaps those on their way; all others are where they were"
                ]
            }
            var counted = tally {
                didSet { done.withLockedValue { $0 = counted } }
            }
            let replay = OperatorTools.Replay(walk, over: publisher, options) { event in
                switch event {
                case .replayed(let letter, let newID):
                    counted.count(letter)
                    if let newID {
                        progress.clear()
                        Output.result("\(Terminal.plain(letter.jobID)) is now \(Terminal.plain(newID))")
                    }
                    progress.show(counted.done)
                case .left: counted.left += 1
                case .withoutRequester: counted.withoutRequester += 1
                case .noTask: counted.noTask += 1
                case .invalid(let letter, let fault):
                    counted.invalid += 1
                    progress.clear()
                    let lines = fault.description.split(separator: "\n").map { Terminal.plain(String($0)) }
                    Output.error("\(Terminal.plain(letter.jobID)): \(lines.joined(separator: "\n    "))")
                }
            }
            defer { tally = counted }
            do {
                try await replay.run(flags.filter, limit: limit)
            } catch {
                progress.clear()
                Output.error("\(counted.done) replayed\(counted.byCode); all others are where they were")
                guard let refusal = error as? OperatorTools.Replay.Refusal else { throw error }
                Output.error("seedream-worker: \(refusal)")
                throw ExitCode(ExitStatus.unavailable)
            }
            progress.clear()
        }
    }
}
