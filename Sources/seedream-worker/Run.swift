import ArgumentParser
import EditWorker
import Glibc
import Journal
import Logging
import NIOPosix
import RabbitMQ
import SeedreamAPI
import Settings
import Telemetry
import UnixSignals
import WebServer

/// `run`: the worker itself.
struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take jobs from the queue until told to stop.",
        discussion: """
            Example: SEEDREAM_API_TOKEN_FILE=token seedream-worker run --worker-concurrency 200

            Waits for a broker that is down, and for an API that is sick. SIGTERM or SIGINT finishes the jobs in flight; \
            another one, a second later or more, ends at once, and the broker delivers them again.

            Each setting is a flag, also those that are not listed here; see: seedream-worker settings
            """
    )

    @Flag(help: "End with status 69 or 77 if the broker cannot be used, instead of trying again.")
    var failFast = false

    @OptionGroup
    var flags: SettingFlags<RunSettings>

    func run() async throws {
        let settings = try flags.read(needsToken: true).settings
        // The reader has told already that it is missing.
        guard let tokens = try settings.tokens() else { throw ExitCode(ExitStatus.settings) }
        let (logger, lines) = Self.logger(settings)
        // Whatever way it ends: what is not written by then is lost.
        defer { lines.flush(within: .seconds(1)) }
        Self.raiseOpenFiles(logger)
        let worker = try WorkerComposition(settings, tokens: tokens, failFast: failFast, logger: logger, lines: lines)
        if failFast {
            do throws(JournalFault) {
                try await worker.checkJournal()
            } catch {
                lines.write("seedream-worker: \(error)")
                try await worker.shutdown()
                throw ExitCode(ExitStatus.unavailable)
            }
        }
        // Before anybody can know that it has started.
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        logger.log(.info, "starting", [.version: Version.current, .queue: settings.queueName])
        let outcome: Result<Void, any Error>
        do {
            let drain = Drain(worker.service, limit: settings.drainTimeout, logger: logger, lines: lines)
            outcome = .success(try await Self.serve(worker, until: drain, signals))
        } catch {
            outcome = .failure(error)
        }
        try await worker.shutdown()
        switch outcome {
        case .success:
            logger.log(.info, "done")
        case .failure(let error as AMQPError):
            lines.write("seedream-worker: \(error)")
            throw ExitCode(error.exitStatus)
        case .failure(let fault as HTTPServer.CannotListen):
            lines.write("seedream-worker: http.listen: \(fault); give another address or port, or 'off'")
            throw ExitCode(ExitStatus.unavailable)
        case .failure(let error):
            lines.write("seedream-worker: internal fault: \(error); please report it with the log")
            throw ExitCode(ExitStatus.internalFault)
        }
    }

    /// Runs the parts of a worker until its drain has come to its end, or one of them cannot go on.
    private static func serve(
        _ worker: WorkerComposition,
        until drain: Drain,
        _ signals: UnixSignalsSequence
    ) async throws {
        // Until the process ends: its user may not want to wait for the last part either.
        Task { for await _ in signals { await drain.signalled() } }
        try await withThrowingTaskGroup(of: Void.self) { beside in
            beside.addTask { await worker.sweeper.run() }
            if let server = worker.healthServer {
                beside.addTask {
                    do {
                        try await server.run()
                    } catch {
                        await drain.begin()
                        throw error
                    }
                }
            }
            let outcome: Result<Void, any Error>
            do {
                outcome = .success(try await worker.service.run())
            } catch {
                await drain.limitTheRest()
                outcome = .failure(error)
            }
            // Last, so that a drain can be watched to its end.
            beside.cancelAll()
            try await beside.waitForAll()
            try outcome.get()
        }
    }

    private static func logger(_ settings: WorkerSettings) -> (Logger, LogLines) {
        let isText = settings.logFormat == .text || settings.logFormat == .auto && Output.isInteractive
        let level = settings.logLevel
        let lines = LogLines(STDERR_FILENO)
        LoggingSystem.bootstrap { _ in LineLogHandler(format: isText ? .text : .json, level: level, lines: lines) }
        return (Logger(label: "seedream-worker"), lines)
    }

    /// A shell's usual limit, 1024, is less than a worker with many jobs in flight needs; the system's own is its maximum.
    private static func raiseOpenFiles(_ logger: Logger) {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0,
            limit.rlim_cur < limit.rlim_max
        else { return }
        limit.rlim_cur = limit.rlim_max
        guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) != 0 else { return }
        logger.log(.warning, "cannot raise the limit of open files", [.count: "\(limit.rlim_cur)"])
    }
}

extension AMQPError {
    /// The status with which `--fail-fast` ends.
    var exitStatus: Int32 {
        switch code {
        case .authenticationRefused, .accessRefused: ExitStatus.refused
        default: ExitStatus.unavailable
        }
    }
}

/// A worker's end: in good order at the first signal, at once at the second, or if it takes too long.
private actor Drain {
    private let service: EditWorkerService
    private let limit: Duration
    private let logger: Logger
    private let lines: LogLines
    /// When the first signal came.
    private var firstSignal: ContinuousClock.Instant?
    private var hasBegun = false

    init(_ service: EditWorkerService, limit: Duration, logger: Logger, lines: LogLines) {
        self.lines = lines
        self.service = service
        self.limit = limit
        self.logger = logger
    }

    /// timeout(1), a shell's Ctrl-C and an orchestrator send several at once, which are one.
    private static let sameSignal = Duration.seconds(1)

    func signalled() async {
        let first = firstSignal ?? .now
        firstSignal = first
        if .now - first >= Self.sameSignal {
            end("a second signal: ending at once; the broker delivers the rest again")
        }
        await begin()
    }

    func begin() async {
        guard !hasBegun else { return }
        hasBegun = true
        limitTheRest()
        await service.drain()
    }

    /// Ends the process if what is left takes longer than the limit.
    func limitTheRest() {
        Task {
            try await Task.sleep(for: limit)
            end("the drain deadline has passed; the broker delivers the rest again")
        }
    }

    private func end(_ message: StaticString) {
        logger.log(.warning, message)
        lines.flush(within: .milliseconds(200))
        // Without exit handlers: other threads are still at work.
        _exit(ExitStatus.drainDeadline)
    }
}
