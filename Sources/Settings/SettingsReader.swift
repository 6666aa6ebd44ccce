import EditJob
import SharedValues

/// Reads all settings from their sources: flag, then environment, then file, then default.
///
/// Our own, 250 lines, because every fault is told at once with a line of its own, an unknown `SEEDREAM_…` variable too.
package struct SettingsReader: Sendable {
    /// Where a value came from.
    package enum Source: Hashable, Sendable, CustomStringConvertible {
        case flag
        case environment(String)
        case file(String)
        case `default`

        /// Rises from the source that wins.
        fileprivate var rank: Int {
            switch self {
            case .flag: 0
            case .environment: 1
            case .file: 2
            case .default: 3
            }
        }

        package var description: String {
            switch self {
            case .flag: "flag"
            case .environment(let variable): variable
            case .file(let path): path
            case .default: "default"
            }
        }
    }

    /// A fault of one setting: its name, its value unless secret, and what is allowed.
    package struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        package let description: String
    }

    /// Several faults, a line each.
    package struct Faults: Error, Sendable {
        package let all: [Fault]
    }

    /// A setting's value as a text, and where it came from.
    package struct Entry: Sendable {
        package let definition: SettingDefinition
        /// The text, nil if there is none.
        package let text: String?
        /// Where it came from.
        package let source: Source

        /// Whether the value differs from the default.
        package var isChanged: Bool { text != definition.defaultText }

        /// The text as it may be shown.
        package var shownText: String? {
            guard definition.isSecret, let text, source != .default else { return text }
            return definition.redact(text) ?? "<redacted>"
        }
    }

    /// The checked settings, and each with its source.
    package struct Result: Sendable {
        package let settings: WorkerSettings
        /// One an entry of the catalogue, in its order.
        package let entries: [Entry]
    }

    private static let configVariable = "SEEDREAM_CONFIG"

    private let flags: [String: String]
    private let environment: [String: String]
    private let configPath: String?

    /// Takes the flags by their settings' keys, the environment, and the file of `--config`.
    package init(flags: [String: String], environment: [String: String], configPath: String?) {
        self.flags = flags.mapValues { Self.withoutLineBreak($0) }
        self.environment = environment.mapValues { Self.withoutLineBreak($0) }
        self.configPath = configPath ?? self.environment[Self.configVariable].flatMap { $0.isEmpty ? nil : $0 }
    }

    /// A value that was read from a file, as `$(cat FILE)` does not, may end with the file's last line break.
    private static func withoutLineBreak(_ text: String) -> String {
        text.last?.isNewline == true ? String(text.dropLast()) : text
    }

    /// Reads and checks all; throws every fault at once.
    ///
    /// With `needsToken` a missing `api.token` is one of them.
    package func read(needsToken: Bool = false) throws(Faults) -> Result {
        var faults: [Fault] = unknownVariables()
        let file = readFile(&faults)
        var settings = WorkerSettings()
        settings.environmentProxies = EnvironmentProxies(environment)
        var entries: [Entry] = []
        for definition in SettingCatalogue.all {
            var entry = entry(for: definition, file: file, &faults)
            if definition.key == "api.proxy", entry.text == nil, let named = SettingText.environmentProxy(settings),
                // Another program's proxy may be of a kind that is not supported here; only who needs the API must know.
                needsToken || (try? named.address()) != nil
            {
                entry = Entry(definition: definition, text: named.text, source: .environment(named.variable))
            }
            entries.append(entry)
            guard let text = entry.text else { continue }
            do {
                try definition.apply(text, &settings)
            } catch {
                faults.append(fault(definition, entry, error))
            }
        }
        preferNearerToken(entries, &settings)
        faults += contradictions(settings, entries)
        let isTokenGiven = entries.contains { $0.definition.key.hasPrefix("api.token") && $0.text != nil }
        if needsToken, !isTokenGiven {
            faults.append(
                Fault(
                    description:
                        "api.token is missing; set SEEDREAM_API_TOKEN_FILE to the path of a file with the token"
                )
            )
        }
        guard faults.isEmpty else { throw Faults(all: faults) }
        return Result(settings: settings, entries: entries)
    }

    // MARK: - Sources

    private func entry(for definition: SettingDefinition, file: [String: String], _ faults: inout [Fault]) -> Entry {
        if let text = flags[definition.key] { return Entry(definition: definition, text: text, source: .flag) }
        let variable = definition.variable
        if let text = environment[variable] {
            return Entry(definition: definition, text: text, source: .environment(variable))
        }
        // `api.tokenFile` is a setting of its own, since its file is read again; other secrets are read once.
        if definition.isSecret, definition.key != "api.token", let path = environment[variable + "_FILE"] {
            do {
                let text = try SettingText.secret(inFile: path)
                return Entry(definition: definition, text: text, source: .environment(variable + "_FILE"))
            } catch {
                faults.append(
                    Fault(description: "\(variable)_FILE is \"\(path)\": \(error.reason ?? "it cannot be read")")
                )
            }
        }
        if let text = file[definition.key] {
            return Entry(definition: definition, text: text, source: .file(configPath ?? ""))
        }
        return Entry(definition: definition, text: definition.defaultText, source: .default)
    }

    private func unknownVariables() -> [Fault] {
        let secrets = SettingCatalogue.all.filter(\.isSecret).map { $0.variable + "_FILE" }
        let known = SettingCatalogue.all.map(\.variable) + secrets + [Self.configVariable]
        return
            environment.filter { name, value in
                name.hasPrefix("SEEDREAM_") && !known.contains(name) && !ServiceVariable.isOne(name, value)
            }
            .keys.sorted()
            .map { name in
                let hint = NearestName.of(name, among: known).map { "did you mean \($0)?" }
                return Fault(
                    description:
                        "\(name) is not a known variable; \(hint ?? "see seedream-worker settings for all of them")"
                )
            }
    }

    /// The file's settings by their dotted keys; JSON is YAML too.
    private func readFile(_ faults: inout [Fault]) -> [String: String] {
        guard let configPath else { return [:] }
        guard let text = SecretFile.text(at: configPath) else {
            faults.append(
                Fault(
                    description:
                        "the settings file \(configPath) cannot be read; check that it exists and its permissions"
                )
            )
            return [:]
        }
        do {
            guard let root = try YAMLNode.parse(text) else { return [:] }
            var values: [String: String] = [:]
            flatten(root, "", into: &values, &faults)
            return values
        } catch {
            faults.append(
                Fault(
                    description:
                        "the settings file \(configPath) is not valid YAML or JSON at line \(error.line), column \(error.column)"
                )
            )
            return [:]
        }
    }

    private func flatten(
        _ node: YAMLNode,
        _ prefix: String,
        into values: inout [String: String],
        _ faults: inout [Fault]
    ) {
        let known = SettingCatalogue.all.map(\.key)
        switch node {
        case .mapping(let mapping):
            for (name, value) in mapping {
                let key = prefix.isEmpty ? name : "\(prefix).\(name)"
                flatten(value, key, into: &values, &faults)
            }
        case .sequence(let sequence) where known.contains(prefix):
            values[prefix] = sequence.map { $0.text ?? "" }.joined(separator: ",")
        case .scalar(let text) where known.contains(prefix):
            values[prefix] = Self.withoutLineBreak(text)
        default:
            let name = prefix.isEmpty ? "the whole" : prefix
            let isGroup = known.contains { $0.hasPrefix(prefix + ".") }
            let hint = NearestName.of(prefix, among: known).map { "did you mean \($0)?" }
            faults.append(
                Fault(
                    description: isGroup || prefix.isEmpty
                        ? "\(name) in \(configPath ?? "") must be a group of settings"
                        : "\(name) in \(configPath ?? "") is not a known setting; "
                            + (hint ?? "see seedream-worker settings for all of them")
                )
            )
        }
    }

    // MARK: - Faults

    private func fault(_ definition: SettingDefinition, _ entry: Entry, _ refusal: SettingDefinition.Refusal) -> Fault {
        let name =
            switch entry.source {
            case .flag: "--\(definition.flag)"
            case .environment(let variable): variable
            case .file(let path): "\(definition.key) in \(path)"
            case .default: definition.key
            }
        let isHidden = definition.isSecret || refusal.hidesValue
        let value = isHidden ? "has a value that is not allowed" : "is \"\(entry.text ?? "")\""
        let why = refusal.reason.map { ": \($0)" } ?? ""
        return Fault(description: "\(name) \(value)\(why); allowed is \(definition.allowed)")
    }

    private func tokenEntries(_ entries: [Entry]) -> (token: Entry, file: Entry)? {
        let given = entries.filter { $0.text != nil }
        guard let token = given.first(where: { $0.definition.key == "api.token" }),
            let file = given.first(where: { $0.definition.key == "api.tokenFile" })
        else { return nil }
        return (token, file)
    }

    /// A token of the environment beats a token file named in the settings file, and the other way round.
    private func preferNearerToken(_ entries: [Entry], _ settings: inout WorkerSettings) {
        guard let (token, file) = tokenEntries(entries), token.source.rank < file.source.rank, let text = token.text
        else { return }
        settings.apiToken = .value(text)
    }

    /// Values that are right by themselves and wrong together.
    private func contradictions(_ settings: WorkerSettings, _ entries: [Entry]) -> [Fault] {
        var faults: [Fault] = []
        let given = Set(entries.filter { $0.text != nil && $0.source != .default }.map(\.definition.key))
        if let (token, file) = tokenEntries(entries), token.source.rank == file.source.rank {
            faults.append(Fault(description: "api.token and api.tokenFile are both set; set one of them"))
        }
        if given.contains("amqp.certFile") != given.contains("amqp.keyFile") {
            faults.append(Fault(description: "amqp.certFile and amqp.keyFile belong together; set both or none"))
        }
        if settings.gateMinDelay > settings.gateMaxDelay {
            faults.append(Fault(description: "gate.minDelay is longer than gate.maxDelay; make it at most as long"))
        }
        if settings.journalStore != .ledger {
            for key in ["fleet.rateLimit", "fleet.budget"] where given.contains(key) {
                faults.append(
                    Fault(description: "\(key) needs what all replicas know together; set journal.store to ledger")
                )
            }
        }
        if let budget = settings.fleetBudget, budget.period > settings.journalRetention {
            faults.append(
                Fault(description: "fleet.budget counts for longer than journal.retention; raise journal.retention")
            )
        }
        return faults
    }
}
