import ArgumentParser
import EditJob
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
            Doctor.self, SettingsCommand.self,
        ],
        defaultSubcommand: Run.self
    )

    static func main() async {
        if let fault = CommandSpelling.fault(in: CommandLine.arguments.dropFirst(), of: Self.self) {
            Console.error(fault)
            _exit(ExitStatus.usage)
        }
        await main(nil)
    }
}

/// Finds a misspelt command before it is taken for an argument of `run`, which stands where none is given.
enum CommandSpelling {
    /// What is wrong with the commands among the arguments, and the nearest right one.
    static func fault(in arguments: ArraySlice<String>, of command: any ParsableCommand.Type) -> String? {
        let subcommands = command.configuration.subcommands
        guard !subcommands.isEmpty, let word = arguments.first, !word.hasPrefix("-"), word != "help" else { return nil }
        let names = subcommands.map(name)
        if let index = names.firstIndex(of: word) {
            return fault(in: arguments.dropFirst(), of: subcommands[index])
        }
        let hint =
            NearestName.of(word, among: names).map { "did you mean \($0)?" } ?? "there are "
            + names.joined(separator: ", ")
        return "Error: there is no command '\(word)'; \(hint)"
    }

    private static func name(_ command: any ParsableCommand.Type) -> String {
        command.configuration.commandName ?? "\(command)".lowercased()
    }
}

/// The program's version.
enum Version {
    static let current = "0.1.0"
}
