/// One setting: its names, its meaning, and how a text becomes its value.
package struct SettingDefinition: Sendable {
    /// The dotted key, as in a file: `amqp.url`.
    package let key: String
    /// What the program takes without one, nil for nothing.
    package let defaultText: String?
    /// What it means, for people.
    package let meaning: String
    /// What may stand there, for people.
    package let allowed: String
    /// Whether its value is never shown.
    package let isSecret: Bool
    /// What may be shown of a secret; nil for nothing of it.
    var redact: @Sendable (String) -> String? = { _ in nil }
    /// Puts a text's value into the settings; throws `Refusal` where it is none.
    let apply: @Sendable (String, inout WorkerSettings) throws(Refusal) -> Void

    /// The text is no value of the setting.
    struct Refusal: Error {
        /// Says more than `allowed` does, nil if that says all.
        var reason: String?
        /// Whether the text may hold a secret, though the setting is none.
        var hidesValue = false
    }

    init(
        _ key: String,
        default defaultText: String?,
        _ meaning: String,
        allowed: String,
        isSecret: Bool = false,
        apply: @escaping @Sendable (String, inout WorkerSettings) throws(Refusal) -> Void
    ) {
        self.key = key
        self.defaultText = defaultText
        self.meaning = meaning
        self.allowed = allowed
        self.isSecret = isSecret
        self.apply = apply
    }

    /// With what may be shown of its value though it is a secret.
    func showing(_ redact: @escaping @Sendable (String) -> String?) -> SettingDefinition {
        var definition = self
        definition.redact = redact
        return definition
    }

    /// The environment variable: `SEEDREAM_AMQP_URL`.
    package var variable: String { "SEEDREAM_" + words.map { $0.uppercased() }.joined(separator: "_") }

    /// The command-line flag without its dashes: `amqp-url`.
    package var flag: String { words.joined(separator: "-") }

    /// The key's words in lower case: `api.baseUrl` has `api`, `base`, `url`.
    private var words: [String] {
        var words = [""]
        for character in key {
            if character == "." {
                words.append("")
            } else if character.isUppercase {
                words.append(character.lowercased())
            } else {
                words[words.count - 1].append(character)
            }
        }
        return words
    }
}
