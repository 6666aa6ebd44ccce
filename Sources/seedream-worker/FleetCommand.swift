import ArgumentParser
import EditJob
import EditWorker
import Glibc
import JSON
import Journal
import OperatorTools
import RabbitMQ
import Settings
import SharedValues

/// `fleet`: the replicas together.
struct FleetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fleet",
        abstract: "Show the replicas, pause all of them, or let them go on.",
        discussion: "The replicas share what they know through the ledger (journal.store=ledger).",
        subcommands: [Status.self, Pause.self, Resume.self],
        defaultSubcommand: Status.self
    )

    /// `fleet pause`: no replica submits any more.
    struct Pause: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let no replica submit any more, those that start later included.",
            discussion: """
                Example: seedream-worker fleet pause --reason "price change"

                Jobs in flight come to their end; all others stay in the queue. It holds until: seedream-worker fleet resume
                """
        )

        @Option(help: ArgumentHelp("Why, for those who look at the fleet.", valueName: "text"))
        var reason = ""

        @OptionGroup
        var limits: CommandLimits

        @OptionGroup
        var settings: SettingFlags<BrokerSettings>

        func run() async throws {
            try await FleetCommand.give(.pause(reason: reason), settings.read().settings)
            Output.error("paused; to go on: seedream-worker fleet resume")
        }
    }

    /// `fleet resume`: the replicas go on.
    struct Resume: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let the replicas submit again.",
            discussion: "Example: seedream-worker fleet resume"
        )

        @OptionGroup
        var limits: CommandLimits

        @OptionGroup
        var settings: SettingFlags<BrokerSettings>

        func run() async throws {
            try await FleetCommand.give(.resume, settings.read().settings)
            Output.error("resumed")
        }
    }

    /// `fleet status`: a table of the replicas.
    struct Status: BrokerCommand {
        static let judgesItsEnd = true

        static let configuration = CommandConfiguration(
            abstract: "Show the replicas, and how much of the shared rate and budget is used.",
            discussion: "Example: seedream-worker fleet status --watch"
        )

        @Flag(help: "Show it again every two seconds, until Ctrl-C.")
        var watch = false

        @Option(help: "The form of the output: a table, or a JSON object.")
        var format = OutputFormat.text

        @OptionGroup
        var limits: CommandLimits

        @OptionGroup
        var settings: SettingFlags<BrokerSettings>

        func run() async throws {
            let settings = try settings.read().settings
            try await FleetCommand.reporting(settings) { connection in
                var isFirst = true
                repeat {
                    let view = try await FleetView.read(settings.queues.ledger, on: connection)
                    if !isFirst, format == .text { Output.result("") }
                    isFirst = false
                    switch format {
                    case .json: Output.result(String(decoding: view.json.encoded(), as: UTF8.self))
                    case .text: for line in view.lines(Terminal(STDOUT_FILENO)) { Output.result(line) }
                    }
                    // Watching has no other end.
                    if watch, (try? await Task.sleep(for: .seconds(2))) == nil { throw ExitCode.success }
                } while watch
            }
        }
    }

    private static func give(_ order: FleetOrder, _ settings: WorkerSettings) async throws {
        try await reporting(settings) { connection in
            try await order.give(by: Process.person, in: settings.queues.ledger, on: connection)
        }
    }

    /// Runs with a connection; a ledger that is missing is told with what to do.
    fileprivate static func reporting(
        _ settings: WorkerSettings,
        _ body: (AMQPConnection) async throws -> Void
    ) async throws {
        try await BrokerSession.reporting {
            let connection = try await BrokerSession.open(settings, for: "fleet")
            do {
                try await body(connection)
                await connection.close()
            } catch {
                await connection.close()
                if let fault = error as? OperatorRecords.NotHeard {
                    Output.error("seedream-worker: \(fault)")
                    throw ExitCode(ExitStatus.someFailed)
                }
                guard let error = error as? AMQPError, error.code == .notFound else { throw error }
                Output.error(
                    "seedream-worker: there is no ledger \(settings.queues.ledger); workers write one with "
                        + "journal.store=ledger"
                )
                throw ExitCode(ExitStatus.unavailable)
            }
        }
    }
}
