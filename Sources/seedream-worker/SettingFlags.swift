import ArgumentParser
import Glibc
import Settings

/// Which settings a command has flags for.
protocol SettingChoice {
    static func includes(_ key: String) -> Bool
    /// Whether the command's help shows the flag, which works in any case.
    static func shows(_ key: String) -> Bool
}

extension SettingChoice {
    static func shows(_ key: String) -> Bool { true }
}

/// An option of `SettingFlags` by its name.
private struct SettingKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }

    static let config = SettingKey(stringValue: "config")
}

/// A flag for each setting of a choice, and `--config`; a setting without its flag comes from the environment, the file, or its
/// default.
///
/// ArgumentParser asks the mirror of an arguments type for its options, and `init(from:)` for their values: so the options
/// come from the catalogue, and a setting is written down once.
struct SettingFlags<Choice: SettingChoice>: ParsableArguments, CustomReflectable {
    private static var settings: [SettingDefinition] { SettingCatalogue.all.filter { Choice.includes($0.key) } }

    /// The values that were given, by the keys of their settings.
    private let given: [String: String]
    /// The file of `--config`.
    private let config: String?

    init() { (given, config) = ([:], nil) }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: SettingKey.self)
        var given: [String: String] = [:]
        for setting in Self.settings {
            given[setting.key] =
                try container.decode(Option<String?>.self, forKey: SettingKey(stringValue: setting.key)).wrappedValue
        }
        self.given = given
        config = try container.decode(Option<String?>.self, forKey: .config).wrappedValue
    }

    var customMirror: Mirror {
        let config = Option<String?>(
            help: ArgumentHelp(
                "A settings file, JSON or YAML. Each option below is a setting, which the file or the environment may give too.",
                valueName: "file"
            )
        )
        let options = Self.settings.map { setting -> Mirror.Child in
            let shown = setting.defaultText.map { " (default: \($0))" } ?? ""
            let help = ArgumentHelp(
                "\(setting.meaning)\(shown)",
                valueName: setting.key,
                visibility: Choice.shows(setting.key) ? .default : .hidden
            )
            return (setting.key, Option<String?>(name: .customLong(setting.flag), help: help))
        }
        return Mirror(self, children: [(SettingKey.config.stringValue, config)] + options)
    }

    /// What reads the settings, with the flags' own.
    var reader: SettingsReader {
        SettingsReader(flags: given, environment: Process.environment, configPath: config)
    }

    /// The effective settings; prints every fault and ends with 78 if there is one.
    func read(needsToken: Bool = false) throws -> SettingsReader.Result {
        do {
            return try reader.read(needsToken: needsToken)
        } catch {
            for fault in error.all { Output.error("seedream-worker: \(fault)") }
            throw ExitCode(ExitStatus.settings)
        }
    }
}

/// Every setting, of which the help shows those that are set first.
enum RunSettings: SettingChoice {
    private static let shown: Set<String> = [
        "amqp.url", "amqp.caFile", "queue.name", "queue.type", "queue.topology", "api.baseUrl", "api.tokenFile",
        "worker.concurrency", "worker.rateLimit", "fleet.rateLimit", "fleet.budget", "follow.tasks",
        "retry.maxAttempts", "policy.noAnswer", "policy.gatewayError", "journal.store", "journal.writers",
        "http.listen", "log.level",
    ]

    static func includes(_ key: String) -> Bool { true }
    static func shows(_ key: String) -> Bool { shown.contains(key) }
}

/// Every setting: for `doctor` and `settings`.
enum AllSettings: SettingChoice {
    static func includes(_ key: String) -> Bool { true }
}

/// What is needed to reach the queues.
enum BrokerSettings: SettingChoice {
    static func includes(_ key: String) -> Bool { key.hasPrefix("amqp.") || key == "queue.name" }
}

/// What is needed to cancel jobs that wait in any queue.
enum CancelSettings: SettingChoice {
    static func includes(_ key: String) -> Bool {
        BrokerSettings.includes(key) || ["journal.store", "retry.delays"].contains(key)
    }
}

/// What is needed to make the queues.
enum TopologySettings: SettingChoice {
    static func includes(_ key: String) -> Bool {
        BrokerSettings.includes(key)
            || ["queue.type", "jobs.exchange", "retry.delays", "follow.tasks", "follow.delays"].contains(key)
    }
}

/// What is needed to check jobs.
enum ValidateSettings: SettingChoice {
    static func includes(_ key: String) -> Bool { key == "policy.unknownFields" }
}

/// What is needed to check jobs and put them back on their queue.
enum ReplaySettings: SettingChoice {
    static func includes(_ key: String) -> Bool { ValidateSettings.includes(key) || BrokerSettings.includes(key) }
}

/// What is needed to check jobs and publish them.
enum SubmitSettings: SettingChoice {
    static func includes(_ key: String) -> Bool {
        ReplaySettings.includes(key) || key == "jobs.exchange"
    }
}

/// What is needed to look at all queues, to replay jobs, and to look at their tasks.
enum ConsoleSettings: SettingChoice {
    private static let api = ["api.baseUrl", "api.tokenFile", "api.connectTimeout", "api.caFile", "api.proxy"]

    static func includes(_ key: String) -> Bool {
        TopologySettings.includes(key) || ValidateSettings.includes(key) || api.contains(key)
    }
}
