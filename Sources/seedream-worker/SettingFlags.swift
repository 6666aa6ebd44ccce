import ArgumentParser
import Glibc
import WorkerSettings

/// A flag for every setting; without one the environment, the file and the default count.
struct SettingFlags: ParsableArguments {
    @Option(help: ArgumentHelp("A settings file, JSON or YAML.", valueName: "file"))
    var config: String?

    @Option(help: .setting("amqp.url")) var amqpUrl: String?
    @Option(help: .setting("amqp.caFile")) var amqpCaFile: String?
    @Option(help: .setting("amqp.certFile")) var amqpCertFile: String?
    @Option(help: .setting("amqp.keyFile")) var amqpKeyFile: String?
    @Option(help: .setting("amqp.heartbeat")) var amqpHeartbeat: String?
    @Option(help: .setting("queue.name")) var queueName: String?
    @Option(help: .setting("queue.type")) var queueType: String?
    @Option(help: .setting("queue.topology")) var queueTopology: String?
    @Option(help: .setting("api.baseUrl")) var apiBaseUrl: String?
    @Option(help: .setting("api.token")) var apiToken: String?
    @Option(help: .setting("api.tokenFile")) var apiTokenFile: String?
    @Option(help: .setting("api.timeout")) var apiTimeout: String?
    @Option(help: .setting("api.connectTimeout")) var apiConnectTimeout: String?
    @Option(help: .setting("api.caFile")) var apiCaFile: String?
    @Option(help: .setting("worker.concurrency")) var workerConcurrency: String?
    @Option(help: .setting("worker.rateLimit")) var workerRateLimit: String?
    @Option(help: .setting("worker.drainTimeout")) var workerDrainTimeout: String?
    @Option(help: .setting("worker.maxMessageBytes")) var workerMaxMessageBytes: String?
    @Option(help: .setting("retry.maxAttempts")) var retryMaxAttempts: String?
    @Option(help: .setting("retry.delays")) var retryDelays: String?
    @Option(help: .setting("gate.minDelay")) var gateMinDelay: String?
    @Option(help: .setting("gate.maxDelay")) var gateMaxDelay: String?
    @Option(help: .setting("policy.noAnswer")) var policyNoAnswer: String?
    @Option(help: .setting("policy.gatewayError")) var policyGatewayError: String?
    @Option(help: .setting("policy.unknownFields")) var policyUnknownFields: String?
    @Option(help: .setting("policy.replyTo")) var policyReplyTo: String?
    @Option(help: .setting("journal.store")) var journalStore: String?
    @Option(help: .setting("journal.retention")) var journalRetention: String?
    @Option(help: .setting("http.listen")) var httpListen: String?
    @Option(help: .setting("log.level")) var logLevel: String?
    @Option(help: .setting("log.format")) var logFormat: String?

    private var given: [String: String?] {
        [
            "amqp.url": amqpUrl, "amqp.caFile": amqpCaFile, "amqp.certFile": amqpCertFile,
            "amqp.keyFile": amqpKeyFile, "amqp.heartbeat": amqpHeartbeat, "queue.name": queueName,
            "queue.type": queueType, "queue.topology": queueTopology, "api.baseUrl": apiBaseUrl,
            "api.token": apiToken, "api.tokenFile": apiTokenFile, "api.timeout": apiTimeout,
            "api.connectTimeout": apiConnectTimeout, "api.caFile": apiCaFile,
            "worker.concurrency": workerConcurrency, "worker.rateLimit": workerRateLimit,
            "worker.drainTimeout": workerDrainTimeout, "worker.maxMessageBytes": workerMaxMessageBytes,
            "retry.maxAttempts": retryMaxAttempts, "retry.delays": retryDelays, "gate.minDelay": gateMinDelay,
            "gate.maxDelay": gateMaxDelay, "policy.noAnswer": policyNoAnswer,
            "policy.gatewayError": policyGatewayError, "policy.unknownFields": policyUnknownFields,
            "policy.replyTo": policyReplyTo, "journal.store": journalStore,
            "journal.retention": journalRetention, "http.listen": httpListen, "log.level": logLevel,
            "log.format": logFormat,
        ]
    }

    /// What reads the settings, with the flags' own.
    var reader: SettingsReader {
        SettingsReader(flags: given.compactMapValues { $0 }, environment: Process.environment, configPath: config)
    }

    /// The effective settings; prints every fault and ends with 78 where there is one.
    func read(needsToken: Bool = false) throws -> SettingsReader.Result {
        do {
            return try reader.read(needsToken: needsToken)
        } catch {
            for fault in error.all { Console.error("seedream-worker: \(fault)") }
            throw ExitCode(ExitStatus.settings)
        }
    }
}

extension ArgumentHelp {
    /// The help of a setting, from the catalogue.
    fileprivate static func setting(_ key: String) -> ArgumentHelp {
        guard let setting = SettingCatalogue.all.first(where: { $0.key == key }) else { return "" }
        let shown = setting.defaultText.map { " (default: \($0))" } ?? ""
        return ArgumentHelp("\(setting.meaning)\(shown)", discussion: "", valueName: key)
    }
}
