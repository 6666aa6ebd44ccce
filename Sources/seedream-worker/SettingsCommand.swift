import ArgumentParser
import Glibc
import JSON
import Settings

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
        discussion: """
            Example: SEEDREAM_QUEUE_NAME=edits seedream-worker settings --changed

            A * marks what differs from its default. Secrets are shown as <redacted>.
            """
    )

    @Flag(help: "Print only what differs from its default.")
    var changed = false

    @Flag(help: "Print each setting over several lines, with its variable and what is allowed.")
    var long = false

    @Option(help: "The form of the output.")
    var format = OutputFormat.text

    @OptionGroup
    var flags: SettingFlags<AllSettings>

    func run() throws {
        let entries = try flags.read().entries.filter { !changed || $0.isChanged }
        switch format {
        case .json:
            let json = JSONValue.array(entries.map { Self.json($0) })
            Output.result(String(decoding: json.encoded(), as: UTF8.self))
        case .text where long:
            for entry in entries { for line in Self.paragraph(entry) { Output.result(line) } }
        case .text:
            for line in Self.table(entries) { Output.result(line) }
            if entries.isEmpty { Output.error("Every setting has its default value.") }
        }
    }

    /// A block of lines per group; on a terminal no line is longer than that.
    private static func table(_ entries: [SettingsReader.Entry]) -> [String] {
        let terminal = Terminal(STDOUT_FILENO)
        let rows = entries.map { entry in
            let shown = Terminal.plain(entry.shownText ?? "-")
            let meaning =
                entry.isChanged
                ? "\(entry.definition.meaning) (default: \(entry.definition.defaultText ?? "none"))"
                : entry.definition.meaning
            return [
                "\(entry.isChanged ? "*" : " ") \(entry.definition.key)",
                terminal.width == nil ? shown : Terminal.cut(shown, to: 28), "\(entry.source)", meaning,
            ]
        }
        guard !rows.isEmpty else { return [] }
        let lines = terminal.table([["  SETTING", "VALUE", "FROM", "MEANING"]] + rows)
        var shown = [lines[0]]
        var group = ""
        for (entry, line) in zip(entries, lines.dropFirst()) {
            let name = String(entry.definition.key.prefix { $0 != "." })
            if name != group { shown.append("") }
            group = name
            shown.append(line)
        }
        return shown
    }

    private static func paragraph(_ entry: SettingsReader.Entry) -> [String] {
        [
            "\(entry.definition.key) = \(entry.shownText ?? "(none)")",
            "    \(entry.definition.meaning)",
            "    Variable \(entry.definition.variable), default \(entry.definition.defaultText ?? "none"), "
                + "now from \(entry.source). Allowed: \(entry.definition.allowed).",
        ]
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
