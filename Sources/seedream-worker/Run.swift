import AMQP
import ArgumentParser
import EditWorker
import Glibc
import HealthAPI
import Journal
import Logging
import NIOPosix
import SeedreamAPI
import UnixSignals
import WorkerSettings

/// `run`: the worker itself.
struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take jobs from the queue until told to stop.",
        discussion: """
            Example: SEEDREAM_API_TOKEN_FILE=token seedream-worker run --worker-concurrency 200

            Waits for a broker that is down, and for an API that is sick. SIGTERM or SIGINT finishes the jobs in flight; \
            a second one ends at once, and the broker delivers them again.
            """
    )

    @Flag(help: "End with status 69 or 77 if the broker cannot be used, instead of trying again.")
    var failFast = false

    @OptionGroup
    var flags: AllSettings

    func run() async throws {
        let settings = try flags.read(needsToken: true).settings
        // The reader has told already that it is missing.
        guard let tokens = try settings.tokens() else { throw ExitCode(ExitStatus.settings) }
        let logger = Self.logger(settings)
        let worker = try WorkerComposition(settings, tokens: tokens, failFast: failFast, logger: logger)
        if failFast {
            do throws(JournalFault) {
                try await worker.checkJournal()
            } catch {
                Console.error("seedream-worker: \(error)")
                try await worker.shutdown()
                throw ExitCode(ExitStatus.unavailable)
            }
        }
        logger.log(.info, "starting", [.version: Version.current, .queue: settings.queueName])
        let outcome: Result<Void, any Error>
        do {
            let drain = Drain(worker.service, limit: settings.drainTimeout, logger: logger)
            outcome = .success(try await Self.serve(worker, until: drain))
        } catch {
            outcome = .failure(error)
        }
        try await worker.shutdown()
        switch outcome {
        case .success:
            logger.log(.info, "done")
        case .failure(let error as AMQPError):
            Console.error("seedream-worker: \(error)")
            throw ExitCode(error.exitStatus)
        case .failure(let fault as HealthServer.Fault):
            Console.error("seedream-worker: \(fault)")
            throw ExitCode(ExitStatus.unavailable)
        case .failure(let error):
            Console.error("seedream-worker: internal fault: \(error); please report it with the log")
            throw ExitCode(ExitStatus.internalFault)
        }
    }

    /// Runs the parts of a worker until its drain has come to its end, or one of them cannot go on.
    private static func serve(_ worker: WorkerComposition, until drain: Drain) async throws {
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        // To the end of the process: somebody may be tired of waiting for the last part too.
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

    private static func logger(_ settings: Settings) -> Logger {
        let isText = settings.logFormat == .text || settings.logFormat == .auto && Console.isInteractive
        let level = settings.logLevel
        LoggingSystem.bootstrap { _ in LineLogHandler(format: isText ? .text : .json, level: level) }
        return Logger(label: "seedream-worker")
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
    private var signals = 0
    private var hasBegun = false

    init(_ service: EditWorkerService, limit: Duration, logger: Logger) {
        self.service = service
        self.limit = limit
        self.logger = logger
    }

    func signalled() async {
        signals += 1
        if signals == 2 { end("a second signal: ending at once; the broker delivers the rest again") }
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
        // Without exit handlers: other threads are still at work.
        _exit(ExitStatus.drainDeadline)
    }
}
