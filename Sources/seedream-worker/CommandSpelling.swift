import ArgumentParser
import EditJob

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
        return "seedream-worker: there is no command '\(word)'; \(hint)"
    }

    private static func name(_ command: any ParsableCommand.Type) -> String {
        command.configuration.commandName ?? "\(command)".lowercased()
    }
}
