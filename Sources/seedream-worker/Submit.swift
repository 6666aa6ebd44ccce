import ArgumentParser
import EditJob
import EditWorker
import Glibc
import Journal
import Ledger
import OperatorTools
import RabbitMQ
import Settings
import SharedValues

/// `submit`: puts jobs on the queue, and with `--wait` prints their replies.
struct Submit: BrokerCommand {
    static let judgesItsEnd = true

    static let configuration = CommandConfiguration(
        abstract: "Put jobs on the queue and, with --wait, print each reply as it comes.",
        discussion: """
            Example: seedream-worker submit jobs.ndjson --wait

            All jobs are checked first. If one is invalid, none is published. --id-field takes each job's identity \
            from a member of the job: the same id is never paid for twice, however often it is submitted. Ctrl-C tells \
            what was published and how to go on.
            """
    )

    @Argument(help: "Files with one job per line, or a JSON array or object. Use - for stdin.")
    var files: [String]

    @Flag(help: "Wait for all replies, and print each as it comes.")
    var wait = false

    @Flag(help: "Ask for the images, and wait for the reply with their URLs.")
    var follow = false

    @Option(
        help: ArgumentHelp(
            "With --follow, save the images here, as JOB_ID-1.png and so on, and never over a file.",
            valueName: "directory"
        )
    )
    var download: String?

    @Option(help: ArgumentHelp("The queue that the replies go to.", valueName: "queue"))
    var replyTo: String?

    @Option(help: "The format of the replies.")
    var format = OutputFormat.json

    @Flag(help: "Publish the jobs without checking them first.")
    var noCheck = false

    @Option(
        help: ArgumentHelp("The member of each job to use as its id. It is removed from the job.", valueName: "name")
    )
    var idField: String?

    @Option(
        help: ArgumentHelp(
            "The priority of the jobs, 0 to 255. RabbitMQ 4 prefers those from 5 on; older quorum queues know none.",
            valueName: "number"
        )
    )
    var priority: UInt8?

    @Flag(help: "Also submit exported jobs that may have been paid for.")
    var acceptDoubleCharge = false

    @Flag(help: "Submit jobs that were cancelled after all. They need ids of their own, and an operator's broker user.")
    var again = false

    @Option(
        help: ArgumentHelp("Continue an interrupted run, with the value that it printed.", valueName: "run:count")
    )
    var resume: String?

    @OptionGroup
    var limits: CommandLimits

    @OptionGroup
    var flags: SettingFlags<SubmitSettings>

    func validate() throws {
        if let resume, SubmitRun(resume) == nil {
            throw ValidationError("--resume '\(resume)' is not what an interrupted run has printed, such as 1x2y3z:500")
        }
        if wait || follow, replyTo != nil {
            throw ValidationError("--wait and --follow have a reply queue of their own; leave out --reply-to")
        }
        if download != nil, !follow { throw ValidationError("--download needs --follow, which asks for the images") }
        if files.count(where: { $0 == "-" }) > 1 { throw ValidationError("stdin (-) can be read only once") }
    }

    func run() async throws {
        let settings = try flags.read().settings
        let sources = try files.map { try JobSource($0, isReadOnce: noCheck && !again) }
        let total = noCheck ? nil : try await check(sources, settings)
        try await BrokerSession.reporting {
            if again { try await liftCancellations(sources, settings) }
            try await submit(sources, total, settings)
        }
    }

    /// Ends what `cancel` has said of these jobs, before any of them is published.
    ///
    /// For the jobs as they are now: others of the same ids may still wait, and are what was cancelled.
    private func liftCancellations(_ sources: [JobSource], _ settings: WorkerSettings) async throws {
        var jobs: [LiftedJob] = []
        for source in sources {
            try await source.readAll { job in
                guard let id = try? submitted(job).id else {
                    Output.error(
                        "\(job.place): with --again each job needs an id of its own; name its member with --id-field"
                    )
                    throw ExitCode(ExitStatus.someFailed)
                }
                guard let edit = try? EditJob(parsing: submitted(job).text, unknownFields: settings.unknownFields)
                else {
                    Output.error("\(job.place): with --again each job must be valid")
                    throw ExitCode(ExitStatus.someFailed)
                }
                jobs.append(LiftedJob(id: ByteString(id).journalKey, digest: BodyDigest(edit.requestBody())))
            }
        }
        let lifted = jobs
        do {
            try await BrokerSession.access(settings, for: "submit")
                .withConnection(for: "\(getpid())") { connection in
                    let ledger = settings.queues.ledger
                    var order = try await JobCancellation(by: Process.person, reason: "", in: ledger, on: connection)
                    try await order.lift(lifted)
                }
        } catch let fault as OperatorRecords.NotHeard {
            Output.error("seedream-worker: \(fault); nothing was published")
            throw ExitCode(ExitStatus.someFailed)
        } catch let error as AMQPError where error.code == .notFound {
            // Without a ledger nothing was cancelled.
        }
    }

    /// Lines for invalid jobs; `validate` shows them all.
    private static let mostFaults = 20

    private func submitted(_ job: JobFile.Job) throws(SubmittedJob.Refusal) -> SubmittedJob {
        try SubmittedJob(job, idField: idField, acceptsDoubleCharge: acceptDoubleCharge)
    }

    /// Checks all jobs and tells their number.
    private func check(_ sources: [JobSource], _ settings: WorkerSettings) async throws -> Int {
        var progress = ProgressLine("checked")
        var jobs = 0
        var invalid = 0
        for source in sources {
            try await source.readAll { job in
                jobs += 1
                progress.show(jobs)
                do {
                    _ = try EditJob(parsing: submitted(job).text, unknownFields: settings.unknownFields)
                } catch {
                    invalid += 1
                    let fault = (error as? EditJob.Invalid).map { JobFailure($0).message } ?? "\(error)"
                    if invalid <= Self.mostFaults { Output.error("\(job.place): \(fault)") }
                }
            }
        }
        progress.clear()
        guard invalid > 0 else { return jobs }
        if invalid > Self.mostFaults {
            Output.error("… and \(invalid - Self.mostFaults) more; see: seedream-worker validate")
        }
        Output.error(
            "seedream-worker: \(invalid) jobs cannot be submitted; nothing was published. Correct them, or see: "
                + "submit --no-check"
        )
        throw ExitCode(ExitStatus.someFailed)
    }

    private func submit(_ sources: [JobSource], _ total: Int?, _ settings: WorkerSettings) async throws {
        let images: ImageDirectory?
        do throws(ImageDirectory.Fault) {
            images = try download.map { path throws(ImageDirectory.Fault) in try ImageDirectory(path) }
        } catch {
            Output.error("seedream-worker: --download: \(error)")
            throw ExitCode(ExitStatus.outputFault)
        }
        let run = resume.flatMap { SubmitRun($0) } ?? SubmitRun()
        let session = try await SubmitSession(
            settings,
            run: run,
            isResumed: resume != nil,
            total: total,
            replyTo: replyTo,
            waits: wait || follow,
            follows: follow,
            images: images,
            format: format,
            priority: priority
        )
        await session.listen()
        CommandEnd.report { await [session.summary] + session.howToGoOn }
        let isComplete: Bool
        do {
            isComplete = try await publish(sources, after: run, session)
            try await session.finishPublishing()
            if wait || follow, isComplete { await session.waitForReplies() }
            await session.waitForImages()
        } catch {
            for line in await [session.summary] + session.howToGoOn { Output.error(line) }
            throw error
        }
        await session.close()
        Output.error(await session.summary)
        let isLeft = await session.isLeft || !isComplete
        if isLeft { for line in await session.howToGoOn { Output.error(line) } }
        switch CommandEnd.cause {
        // What was published goes on without this command: only the replies are missing.
        case .timedOut? where isComplete:
            let isShort = await session.hasFailures || isLeft
            throw ExitCode(isShort ? ExitStatus.someFailed : EXIT_SUCCESS)
        case .timedOut?: throw ExitCode(ExitStatus.unavailable)
        case .interrupted?: throw ExitCode(ExitStatus.interrupted)
        case nil: if await session.hasFailures { throw ExitCode(ExitStatus.someFailed) }
        }
    }

    /// Publishes all jobs that are not done; false if it was interrupted.
    private func publish(_ sources: [JobSource], after run: SubmitRun, _ session: SubmitSession) async throws -> Bool {
        var read = 0
        for source in sources {
            let isComplete = try await source.readEach { job in
                guard !Task.isCancelled else { return false }
                read += 1
                guard !run.isDone(read) else { return true }
                do {
                    try await session.publish(submitted(job), number: read, name: job.place)
                } catch let fault as SubmittedJob.Refusal {
                    await session.fail("\(job.place): \(fault)")
                }
                return true
            }
            guard isComplete else { return false }
        }
        return true
    }
}
