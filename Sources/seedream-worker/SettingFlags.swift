import ArgumentParser
import Glibc
import Settings

/// Flags for settings; a setting without one comes from the environment, the file, or its default.
///
/// A setting gets a flag by one line in one of the groups below, named after its key: `amqpCaFile` is `amqp.caFile`.
protocol SettingFlags: ParsableArguments {}

extension SettingFlags {
    /// The values that were given, by the keys of their settings.
    fileprivate var given: [String: String] {
        var given: [String: String] = [:]
        for child in Mirror(reflecting: self).children {
            if let group = child.value as? any FlagGroup {
                given.merge(group.given) { _, new in new }
            } else if let option = child.value as? Option<String?>, let label = child.label,
                let text = option.wrappedValue,
                let setting = SettingCatalogue.all.first(where: { $0.flag == Self.flag(label) })
            {
                given[setting.key] = text
            }
        }
        return given
    }

    /// The settings file of `--config`.
    fileprivate var config: String? {
        for child in Mirror(reflecting: self).children {
            if let group = child.value as? any FlagGroup, let config = group.config { return config }
            if child.label == "_config", let option = child.value as? Option<String?> { return option.wrappedValue }
        }
        return nil
    }

    /// `_amqpCaFile` as ArgumentParser spells its flag: `amqp-ca-file`.
    private static func flag(_ label: String) -> String {
        label.dropFirst().reduce(into: "") { $0 += $1.isUppercase ? "-\($1.lowercased())" : String($1) }
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

/// A group of flags within another.
private protocol FlagGroup {
    var given: [String: String] { get }
    var config: String? { get }
}

extension OptionGroup: FlagGroup where Value: SettingFlags {
    var given: [String: String] { wrappedValue.given }
    var config: String? { wrappedValue.config }
}

// MARK: - Groups

/// The file that all settings may come from; commands have it first of the settings' flags.
struct ConfigFlags: SettingFlags {
    @Option(
        help: ArgumentHelp(
            "A settings file, JSON or YAML. Each option below is a setting, which the file or the environment may give too.",
            valueName: "file"
        )
    )
    var config: String?
}

struct BrokerFlags: SettingFlags {
    @Option(help: .setting("amqp.url")) var amqpUrl: String?
    @Option(help: .setting("amqp.caFile")) var amqpCaFile: String?
    @Option(help: .setting("amqp.certFile")) var amqpCertFile: String?
    @Option(help: .setting("amqp.keyFile")) var amqpKeyFile: String?
    @Option(help: .setting("amqp.heartbeat")) var amqpHeartbeat: String?
    @Option(help: .setting("queue.name")) var queueName: String?
}

struct TopologyFlags: SettingFlags {
    @Option(help: .setting("queue.type")) var queueType: String?
    @Option(help: .setting("retry.delays")) var retryDelays: String?
    @Option(help: .setting("follow.tasks")) var followTasks: String?
    @Option(help: .setting("follow.delays")) var followDelays: String?
}

struct UnknownFieldsFlags: SettingFlags {
    @Option(help: .setting("policy.unknownFields")) var policyUnknownFields: String?
}

struct WorkerFlags: SettingFlags {
    @Option(help: .setting("queue.topology")) var queueTopology: String?
    @Option(help: .setting("queue.consumerTimeout")) var queueConsumerTimeout: String?
    @Option(help: .setting("api.baseUrl")) var apiBaseUrl: String?
    @Option(help: .setting("api.token")) var apiToken: String?
    @Option(help: .setting("api.tokenFile")) var apiTokenFile: String?
    @Option(help: .setting("api.timeout")) var apiTimeout: String?
    @Option(help: .setting("api.connectTimeout")) var apiConnectTimeout: String?
    @Option(help: .setting("api.caFile")) var apiCaFile: String?
    @Option(help: .setting("api.proxy")) var apiProxy: String?
    @Option(help: .setting("worker.concurrency")) var workerConcurrency: String?
    @Option(help: .setting("worker.rateLimit")) var workerRateLimit: String?
    @Option(help: .setting("fleet.rateLimit")) var fleetRateLimit: String?
    @Option(help: .setting("fleet.budget")) var fleetBudget: String?
    @Option(help: .setting("follow.deadline")) var followDeadline: String?
    @Option(help: .setting("follow.rateLimit")) var followRateLimit: String?
    @Option(help: .setting("follow.concurrency")) var followConcurrency: String?
    @Option(help: .setting("worker.drainTimeout")) var workerDrainTimeout: String?
    @Option(help: .setting("worker.maxMessageBytes")) var workerMaxMessageBytes: String?
    @Option(help: .setting("retry.maxAttempts")) var retryMaxAttempts: String?
    @Option(help: .setting("gate.minDelay")) var gateMinDelay: String?
    @Option(help: .setting("gate.maxDelay")) var gateMaxDelay: String?
    @Option(help: .setting("policy.noAnswer")) var policyNoAnswer: String?
    @Option(help: .setting("policy.gatewayError")) var policyGatewayError: String?
    @Option(help: .setting("policy.replyTo")) var policyReplyTo: String?
    @Option(help: .setting("journal.store")) var journalStore: String?
    @Option(help: .setting("journal.retention")) var journalRetention: String?
    @Option(help: .setting("journal.writers")) var journalWriters: String?
    @Option(help: .setting("http.listen")) var httpListen: String?
    @Option(help: .setting("log.level")) var logLevel: String?
    @Option(help: .setting("log.format")) var logFormat: String?
}

struct LookFlags: SettingFlags {
    @Option(help: .setting("api.baseUrl")) var apiBaseUrl: String?
    @Option(help: .setting("api.tokenFile")) var apiTokenFile: String?
    @Option(help: .setting("api.connectTimeout")) var apiConnectTimeout: String?
    @Option(help: .setting("api.caFile")) var apiCaFile: String?
    @Option(help: .setting("api.proxy")) var apiProxy: String?
}

// MARK: - What commands have

/// Every setting: for `run`, `doctor` and `settings`.
struct AllSettings: SettingFlags {
    @OptionGroup var file: ConfigFlags
    @OptionGroup var broker: BrokerFlags
    @OptionGroup var topology: TopologyFlags
    @OptionGroup var worker: WorkerFlags
    @OptionGroup var jobs: UnknownFieldsFlags
}

/// What is needed to reach the queues.
struct BrokerSettings: SettingFlags {
    @OptionGroup var file: ConfigFlags
    @OptionGroup var broker: BrokerFlags
}

/// What is needed to make the queues.
struct TopologySettings: SettingFlags {
    @OptionGroup var file: ConfigFlags
    @OptionGroup var broker: BrokerFlags
    @OptionGroup var topology: TopologyFlags
}

/// What is needed to check jobs and put them on their queue.
struct SubmitSettings: SettingFlags {
    @OptionGroup var file: ConfigFlags
    @OptionGroup var jobs: UnknownFieldsFlags
    @OptionGroup var broker: BrokerFlags
}

/// What is needed to look at all queues, to replay jobs, and to look at their tasks.
struct ConsoleSettings: SettingFlags {
    @OptionGroup var file: ConfigFlags
    @OptionGroup var broker: BrokerFlags
    @OptionGroup var topology: TopologyFlags
    @OptionGroup var jobs: UnknownFieldsFlags
    @OptionGroup var api: LookFlags
}

/// What is needed to check jobs.
struct ValidateSettings: SettingFlags {
    @OptionGroup var file: ConfigFlags
    @OptionGroup var jobs: UnknownFieldsFlags
}

extension ArgumentHelp {
    /// The help of a setting, from the catalogue.
    fileprivate static func setting(_ key: String) -> ArgumentHelp {
        guard let setting = SettingCatalogue.all.first(where: { $0.key == key }) else { return "" }
        let shown = setting.defaultText.map { " (default: \($0))" } ?? ""
        return ArgumentHelp("\(setting.meaning)\(shown)", discussion: "", valueName: key)
    }
}
