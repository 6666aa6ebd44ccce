import AMQP
import ArgumentParser
import EditJob
import EditWorker
import Glibc
import JSON
import OperatorTools
import WorkerSettings

/// `submit`: puts jobs on the queue, and with `--wait` prints their replies.
struct Submit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put jobs on the queue and, with --wait, print each reply as it comes.",
        discussion: """
            Example: seedream-worker submit jobs.ndjson --wait

            All jobs are checked first; where one is invalid, none is published. --id-field takes each job's identity \
            from a member of the job: the same id is never paid for twice, however often it is submitted. Ctrl-C tells \
            what was published and how to go on.
            """
    )

    @Argument(help: "Files with a job a line, or a JSON array or object; - is stdin.")
    var files: [String]

    @Flag(help: "Print each reply as a line of JSON, and wait for all.")
    var wait = false

    @Option(help: ArgumentHelp("The longest wait for replies.", valueName: "duration"))
    var timeout = "5m"

    @Option(help: ArgumentHelp("The queue for the replies.", valueName: "queue"))
    var replyTo: String?

    @Option(help: "How to print the replies.")
    var format = OutputFormat.json

    @Flag(help: "Publish without checking first.")
    var noCheck = false

    @Option(help: ArgumentHelp("The member of each job that is its id; it is taken out.", valueName: "name"))
    var idField: String?

    @Option(
        help: ArgumentHelp("Go on where an interrupted run has ended; it has printed this.", valueName: "run:count")
    )
    var resume: String?

    @OptionGroup(title: "Settings")
    var flags: SettingFlags

    func validate() throws {
        if let resume, SubmitSession.Run(resume) == nil {
            throw ValidationError("--resume '\(resume)' is not what an interrupted run has printed, such as 1x2y3z:500")
        }
        if wait, replyTo != nil { throw ValidationError("--wait has a reply queue of its own; leave out --reply-to") }
        guard DurationText.parse(timeout) != nil else {
            throw ValidationError("--timeout '\(timeout)' is no duration such as 5m")
        }
        if files.count(where: { $0 == "-" }) > 1 { throw ValidationError("stdin (-) can be read only once") }
    }

    func run() async throws {
        let settings = try flags.read().settings
        let sources = try files.map { try JobSource($0, spool: !noCheck) }
        let total = noCheck ? nil : try await check(sources, settings)
        try await BrokerSession.reporting {
            try await submit(sources, total, settings)
        }
    }

    /// So many are published before anybody can interrupt them.
    private static let fewJobs = 1000
    /// Lines for invalid jobs; `validate` shows them all.
    private static let mostFaults = 20

    /// Checks all jobs and tells their number.
    private func check(_ sources: [JobSource], _ settings: Settings) async throws -> Int {
        var progress = ProgressLine("checked")
        var jobs = 0
        var invalid = 0
        for source in sources {
            try await source.readAll { job in
                jobs += 1
                progress.show(jobs)
                do {
                    let (_, text) = try identity(of: job)
                    _ = try EditJob(parsing: text, unknownFields: settings.unknownFields)
                } catch let fault as EditJob.Invalid {
                    invalid += 1
                    if invalid <= Self.mostFaults { Console.error("\(job.place): \(JobFailure(fault).message)") }
                } catch let fault as MissingID {
                    invalid += 1
                    if invalid <= Self.mostFaults { Console.error("\(job.place): \(fault)") }
                }
            }
        }
        progress.clear()
        guard invalid > 0 else { return jobs }
        if invalid > Self.mostFaults {
            Console.error("… and \(invalid - Self.mostFaults) more; see: seedream-worker validate")
        }
        Console.error("\(invalid) invalid jobs; nothing was published. Correct them, or see: submit --no-check")
        throw ExitCode(ExitStatus.someFailed)
    }

    private func submit(_ sources: [JobSource], _ total: Int?, _ settings: Settings) async throws {
        let isResumed = resume != nil
        let run = resume.flatMap { SubmitSession.Run($0) } ?? SubmitSession.Run()
        let session = try await SubmitSession(
            settings,
            run: run,
            total: total,
            replyTo: replyTo,
            waits: wait,
            format: format
        )
        await session.listen()
        if total ?? .max > Self.fewJobs, !isResumed {
            Console.error("should this be killed: --resume \(run.prefix):0 repeats it without paying twice")
        }
        let isComplete: Bool
        let isInterrupted: Bool
        do {
            (isComplete, isInterrupted) = try await Interruption.run {
                let isComplete = try await publish(sources, skipping: run.skipped, session)
                try await session.finishPublishing()
                if wait, isComplete { await session.waitForReplies(DurationText.parse(timeout) ?? .zero) }
                return isComplete
            }
        } catch {
            Console.error(await session.summary)
            Console.error("not all were published: \(await session.resumption)")
            throw error
        }
        await session.close()
        Console.error(await session.summary)
        if !isComplete { Console.error("interrupted: \(await session.resumption)") }
        if isInterrupted { throw ExitCode(ExitStatus.interrupted) }
        if await session.hasFailures { throw ExitCode(ExitStatus.someFailed) }
    }

    /// Publishes all jobs but the first; false where it was interrupted.
    private func publish(_ sources: [JobSource], skipping skipped: Int, _ session: SubmitSession) async throws -> Bool {
        var read = 0
        for source in sources {
            let isComplete = try await source.readEach { job in
                guard !Task.isCancelled else { return false }
                read += 1
                guard read > skipped else { return true }
                do {
                    let (id, text) = try identity(of: job)
                    try await session.publish(text, id: id, name: job.place)
                } catch let fault as MissingID {
                    await session.fail("\(job.place): \(fault)")
                }
                return true
            }
            guard isComplete else { return false }
        }
        return true
    }

    /// The job's id, and its text without the member that holds it.
    private func identity(of job: JobFile.Job) throws -> (id: String?, text: [UInt8]) {
        guard let idField else {
            guard let exported = ExportedJob(job.text) else { return (nil, job.text) }
            return (exported.id, exported.text)
        }
        guard case .object(let members)? = try? JSONValue(parsing: job.text) else { return (nil, job.text) }
        let id: String
        switch members.first(where: { $0.name == idField })?.value {
        case .string(let text)? where (1...255).contains(text.utf8.count): id = text
        case .integer(let number)?: id = "\(number)"
        default: throw MissingID(field: idField)
        }
        return (id, JSONValue.object(members.filter { $0.name != idField }).encoded())
    }
}

/// A job without the member that is to be its id.
private struct MissingID: Error, CustomStringConvertible {
    let field: String
    var description: String { "\(field) must be a string of 1 to 255 bytes or an integer: it becomes the job's id" }
}
