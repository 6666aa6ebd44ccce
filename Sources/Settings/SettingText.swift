import RabbitMQ
import SharedValues

/// Reads the texts of settings whose values have a form of their own.
enum SettingText {
    typealias Refusal = SettingDefinition.Refusal

    static func urls(_ text: String) throws(Refusal) -> [AMQPURL] {
        var urls: [AMQPURL] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            do {
                urls.append(try AMQPURL(parsing: trimmed(part)))
            } catch {
                throw Refusal(reason: "it \(error)")
            }
        }
        return urls
    }

    static func baseURL(_ text: String) throws(Refusal) -> String {
        var base = text
        while base.hasSuffix("/") { base.removeLast() }
        guard !base.contains("@") else {
            throw Refusal(reason: "it has a user or a password, which are not allowed there", hidesValue: true)
        }
        guard let parts = URLParts(base), parts.isWeb, !base.contains(where: { "?#\\".contains($0) }),
            base.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        else { throw Refusal() }
        do {
            guard try HostAndPort(parts.address).port != 0 else { throw HostAndPort.Fault.port }
        } catch {
            guard case .port? = error as? HostAndPort.Fault else { throw Refusal() }
            throw Refusal(reason: "its port is not a number from 1 to 65535")
        }
        return base
    }

    /// A proxy, nil for none.
    static func proxy(_ text: String) throws(Refusal) -> ProxyAddress? {
        guard text != "none" else { return nil }
        do {
            return try ProxyAddress(parsing: text)
        } catch {
            throw Refusal(reason: "it \(error.description)")
        }
    }

    /// The proxy that the environment names for the API.
    static func environmentProxy(_ settings: WorkerSettings) -> EnvironmentProxies.Named? {
        guard let parts = URLParts(settings.apiBaseURL), let address = try? HostAndPort(parts.address) else {
            return nil
        }
        let isSecure = parts.scheme == "https"
        let port = address.port.map { Int($0) } ?? (isSecure ? 443 : 80)
        guard let named = settings.environmentProxies.proxy(for: String(address.host), port: port, isSecure: isSecure)
        else { return nil }
        return named.text.contains("://") ? named : .init(variable: named.variable, text: "http://\(named.text)")
    }

    /// The name of a queue or an exchange.
    static func name(_ text: String) throws(Refusal) -> String {
        guard (1...200).contains(text.utf8.count), !text.hasPrefix("amq."), !text.utf8.contains(0) else {
            throw Refusal()
        }
        return text
    }

    static func secret(inFile path: String) throws(Refusal) -> String {
        guard let text = SecretFile.text(at: path) else {
            throw Refusal(reason: "the file cannot be read; check that it exists and its permissions")
        }
        guard let secret = SecretFile.token(in: text) else {
            throw Refusal(reason: "the file must hold the secret and nothing else")
        }
        return secret
    }

    static func list<Element>(_ text: String, _ element: (String) -> Element?) throws(Refusal) -> [Element] {
        var elements: [Element] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let part = trimmed(part)
            guard !part.isEmpty, let value = element(part) else { throw Refusal() }
            elements.append(value)
        }
        return elements
    }

    /// Bytes: a whole number with KiB, MiB, GiB, or nothing behind it.
    static func size(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let units = ["": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30]
        guard let number = Int(digits), let shift = units[String(text.dropFirst(digits.count))],
            number <= Int.max >> 30
        else { return nil }
        return number << shift
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text
        while text.first == " " { text = text.dropFirst() }
        while text.last == " " { text = text.dropLast() }
        return String(text)
    }
}
