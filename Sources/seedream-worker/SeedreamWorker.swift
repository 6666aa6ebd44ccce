import ArgumentParser
import Glibc

/// The program: commands and composition, nothing to test without it.
@main
struct SeedreamWorker: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "seedream-worker",
        abstract: "Takes image-edit jobs from RabbitMQ and submits them to the SeeDream V4 Edit API.",
        discussion: """
            A job that was submitted ends in a reply with its task id, a job that was not in a reply that says why and \
            in a dead letter. Settings come from flags, SEEDREAM_… variables and a file; see: seedream-worker settings
            """,
        version: Version.current,
        subcommands: [
            Run.self, SandboxCommand.self, Submit.self, Validate.self, DeadLetters.self, TopologyCommand.self,
            Cancel.self, FleetCommand.self, History.self, Results.self, ConsoleCommand.self, Doctor.self,
            SettingsCommand.self,
            Health.self,
        ],
        defaultSubcommand: Run.self
    )

    static func main() async {
        if let fault = CommandSpelling.fault(in: CommandLine.arguments.dropFirst(), of: Self.self) {
            Output.error(fault)
            _exit(ExitStatus.usage)
        }
        do {
            var command = try parseAsRoot()
            switch command {
            case let command as any BrokerCommand: try await CommandEnd.run(command)
            case var command as any AsyncParsableCommand: try await command.run()
            default: try command.run()
            }
        } catch {
            // Help and the version are no errors, and what ends with a status has said why.
            let status = exitCode(for: error)
            if error is ExitCode || status == .success { exit(withError: error) }
            // As all other errors begin, and not with ArgumentParser's "Error:".
            let message = fullMessage(for: error)
            let prefix = "Error: "
            Output.error(message.hasPrefix(prefix) ? "seedream-worker: \(message.dropFirst(prefix.count))" : message)
            _exit(status.rawValue)
        }
    }
}

enum Version {
    static let current = "0.1.0"
}
