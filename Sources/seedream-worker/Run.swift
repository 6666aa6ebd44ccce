import AMQP
import ArgumentParser
import EditWorker
import Glibc
import HealthAPI
import Journal
import Logging
import NIOPosix
import SeedreamAPI
import ServiceLifecycle
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
        // First to start and last to stop: a drain can be watched to its end.
        let health = worker.healthServer.map {
            [
                ServiceGroupConfiguration.ServiceConfiguration(
                    service: $0,
                    failureTerminationBehavior: .gracefullyShutdownGroup
                )
            ]
        }
        var group = ServiceGroupConfiguration(
            services: (health ?? []) + [
                .init(service: worker.sweeper),
                .init(
                    service: worker.service,
                    successTerminationBehavior: .gracefullyShutdownGroup,
                    failureTerminationBehavior: .gracefullyShutdownGroup
                ),
                // Last, because the group tells its services to stop from the last to the first.
                .init(service: DrainDeadline(limit: settings.drainTimeout, logger: logger)),
            ],
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: Self.groupLogger
        )
        group.maximumCancellationDuration = .seconds(5)
        let outcome: Result<Void, any Error>
        do {
            outcome = .success(try await ServiceGroup(configuration: group).run())
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

    /// The service group's own news are of interest only where something is wrong.
    private static var groupLogger: Logger {
        var logger = Logger(label: "lifecycle")
        logger.logLevel = .warning
        return logger
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

/// Ends the process where the drain takes too long, or if a second signal says that nobody wants to wait.
private struct DrainDeadline: Service, CustomStringConvertible {
    let limit: Duration
    let logger: Logger

    var description: String { "drain deadline" }

    func run() async throws {
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        // Not part of this task, which the graceful shutdown ends just when they are needed.
        Task {
            var count = 0
            for await _ in signals {
                count += 1
                if count == 2 { end("a second signal: ending at once; the broker delivers the rest again") }
            }
        }
        try? await gracefulShutdown()
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
