import ArgumentParser
import JSON
import WorkerSettings

/// How a command prints its results.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case text
    case json
}

/// `settings`: every setting with its meaning, default, effective value and source.
struct SettingsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "settings",
        abstract: "Print every setting with its meaning, default, effective value and source.",
        discussion: "Example: SEEDREAM_QUEUE_NAME=edits seedream-worker settings --format json"
    )

    @Option(help: "How to print them.")
    var format = OutputFormat.text

    @OptionGroup(title: "Settings")
    var flags: SettingFlags

    func run() throws {
        let entries = try flags.read().entries
        switch format {
        case .json:
            let json = JSONValue.array(entries.map { Self.json($0) })
            Console.result(String(decoding: json.encoded(), as: UTF8.self))
        case .text:
            for entry in entries {
                Console.result("\(entry.definition.key) = \(entry.shownText ?? "(none)")")
                Console.result("    \(entry.definition.meaning)")
                Console.result(
                    "    \(entry.definition.variable), default \(entry.definition.defaultText ?? "none"), "
                        + "from \(entry.source); \(entry.definition.allowed)"
                )
            }
        }
    }

    private static func json(_ entry: SettingsReader.Entry) -> JSONValue {
        func text(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }
        return .object([
            JSONMember("key", .string(entry.definition.key)),
            JSONMember("variable", .string(entry.definition.variable)),
            JSONMember("meaning", .string(entry.definition.meaning)),
            JSONMember("allowed", .string(entry.definition.allowed)),
            JSONMember("default", text(entry.definition.defaultText)),
            JSONMember("value", text(entry.shownText)),
            JSONMember("source", .string("\(entry.source)")),
        ])
    }
}
