import AMQP
import ArgumentParser
import EditJob
import EditWorker
import Glibc
import JSON
import WorkerSettings

/// `submit`: puts jobs on the queue, and with `--wait` prints their replies.
struct Submit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put jobs on the queue and, with --wait, print each reply as it comes.",
        discussion: """
            Example: seedream-worker submit jobs.ndjson --wait

            All jobs are checked first; where one is invalid, none is published. --id-field takes each job's identity \
            from a member of the job: the same id is never paid for twice, however often it is submitted.
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

    @OptionGroup(title: "Settings")
    var flags: SettingFlags

    func validate() throws {
        if wait, replyTo != nil { throw ValidationError("--wait has a reply queue of its own; leave out --reply-to") }
        guard DurationText.parse(timeout) != nil else {
            throw ValidationError("--timeout '\(timeout)' is no duration such as 5m")
        }
        if files.count(where: { $0 == "-" }) > 1 { throw ValidationError("stdin (-) can be read only once") }
    }

    func run() async throws {
        let settings = try flags.read().settings
        let sources = try await files.mapAsync { try await JobSource($0, spool: !noCheck) }
        if !noCheck { try await check(sources, settings) }
        do {
            try await submit(sources, settings)
        } catch let error as AMQPError {
            Console.error("seedream-worker: \(error)")
            throw ExitCode(error.exitStatus)
        }
    }

    private func check(_ sources: [JobSource], _ settings: Settings) async throws {
        var invalid = 0
        for source in sources {
            try await source.readEach { job in
                do {
                    let (_, text) = try identity(of: job)
                    _ = try EditJob(parsing: text, unknownFields: settings.unknownFields)
                } catch let fault as EditJob.Invalid {
                    invalid += 1
                    Console.error("\(job.file):\(job.line): \(JobFailure(fault).message)")
                } catch let fault as MissingID {
                    invalid += 1
                    Console.error("\(job.file):\(job.line): \(fault)")
                }
            }
        }
        guard invalid > 0 else { return }
        Console.error("\(invalid) invalid jobs; nothing was published. Correct them, or see: submit --no-check")
        throw ExitCode(ExitStatus.someFailed)
    }

    private func submit(_ sources: [JobSource], _ settings: Settings) async throws {
        let session = try await SubmitSession(settings, replyTo: replyTo, waits: wait, format: format)
        for source in sources {
            try await source.readEach { job in
                do {
                    let (id, text) = try identity(of: job)
                    try await session.publish(text, id: id, name: "\(job.file):\(job.line)")
                } catch let fault as MissingID {
                    session.fail("\(job.file):\(job.line): \(fault)")
                }
            }
        }
        try await session.finishPublishing()
        if wait { try await session.waitForReplies(DurationText.parse(timeout) ?? .zero) }
        await session.close()
        Console.progress("")
        Console.error(session.summary)
        if session.hasFailures { throw ExitCode(ExitStatus.someFailed) }
    }

    /// The job's id, and its text without the member that holds it.
    private func identity(of job: JobFile.Job) throws -> (id: String?, text: [UInt8]) {
        guard let idField else { return (nil, job.text) }
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

/// A file that can be read twice: first to check all jobs, then to publish them.
struct JobSource {
    private let path: String
    private let stored: [JobFile.Job]?

    /// `spool` keeps what comes from stdin, which can be read only once.
    init(_ path: String, spool: Bool) async throws {
        self.path = path
        guard path == "-", spool else {
            stored = nil
            return
        }
        var jobs: [JobFile.Job] = []
        try await JobFile.readEach(in: path) { jobs.append($0) }
        stored = jobs
    }

    func readEach(_ body: (JobFile.Job) async throws -> Void) async throws {
        guard let stored else { return try await JobFile.readEach(in: path, body) }
        for job in stored { try await body(job) }
    }
}

extension Array {
    fileprivate func mapAsync<Result>(_ transform: (Element) async throws -> Result) async rethrows -> [Result] {
        var results: [Result] = []
        for element in self { results.append(try await transform(element)) }
        return results
    }
}
