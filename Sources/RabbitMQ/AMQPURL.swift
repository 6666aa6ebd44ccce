import SharedValues

/// Where a broker is and how to log in.
///
/// Source: RabbitMQ's "URI Specification".
package struct AMQPURL: Hashable, Sendable {
    /// User and password of SASL PLAIN.
    package struct Credentials: Hashable, Sendable {
        package let user: String
        package let password: String
    }

    /// A fault in a URL's text, in words that never quote a password.
    package struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// What is wrong and what is allowed.
        package let description: String
    }

    /// Whether the connection is encrypted (`amqps`).
    package let usesTLS: Bool
    /// Host name or address, an IPv6 address without its brackets.
    package let host: String
    /// TCP port: 5672, or 5671 with TLS, unless given.
    package let port: UInt16
    /// The virtual host, `/` unless given.
    package let virtualHost: String
    /// User and password; nil if the URL has none.
    package let credentials: Credentials?

    /// Reads `amqp://user:password@host:port/vhost` or `amqps://…`, all but the scheme and host optional and
    /// percent-encoded.
    package init(parsing text: String) throws(Fault) {
        guard let parts = URLParts(text) else {
            throw Fault(description: "is not a URL; write amqp://user:password@host:port/vhost")
        }
        switch parts.scheme {
        case "amqp": usesTLS = false
        case "amqps": usesTLS = true
        default: throw Fault(description: "has an unknown scheme; use amqp:// or amqps://")
        }
        guard !text.contains(where: { $0 == "?" || $0 == "#" }) else {
            throw Fault(
                description: "has a query or fragment, which is not supported; "
                    + "write a ? or # in a password as %3F or %23, and set options by their own settings"
            )
        }
        let path = parts.rest.dropFirst()
        // A password with a slash ends the authority early: what follows is a part of it.
        guard !path.contains("@") else {
            throw Fault(
                description:
                    "has an @ behind the first /; write a / in a user or password as %2F, and an @ in a vhost as %40"
            )
        }
        guard !path.contains("/") else {
            throw Fault(description: "has more than one path segment; write a / in a vhost as %2F")
        }
        virtualHost = path.isEmpty ? "/" : try Self.decode(path, "the virtual host")
        credentials = if let user = parts.user { try Self.parseCredentials(user) } else { nil }
        (host, port) = try Self.parseAddress(parts.address, defaultPort: usesTLS ? 5671 : 5672)
    }

    private static func parseCredentials(_ text: Substring) throws(Fault) -> Credentials {
        let colon = text.firstIndex(of: ":")
        let user = try decode(text[..<(colon ?? text.endIndex)], "the user")
        let password = try decode(colon.map { text[text.index(after: $0)...] } ?? "", "the password")
        guard !user.isEmpty else {
            throw Fault(description: "has an empty user before the @")
        }
        return Credentials(user: user, password: password)
    }

    private static func parseAddress(_ text: Substring, defaultPort: UInt16) throws(Fault) -> (String, UInt16) {
        let address: HostAndPort
        do {
            address = try HostAndPort(text)
        } catch {
            switch error {
            case .noHost: throw Fault(description: "has no host")
            case .openBracket: throw Fault(description: "has a [ without a ] around the IPv6 address")
            case .textAfterBracket: throw Fault(description: "has text between the IPv6 address and the port")
            case .port: throw Fault(description: "has a port that is not a number from 1 to 65535")
            }
        }
        guard address.port != 0 else {
            throw Fault(description: "has a port that is not a number from 1 to 65535")
        }
        return (try decode(address.host, "the host"), address.port ?? defaultPort)
    }

    private static func decode(_ text: Substring, _ part: String) throws(Fault) -> String {
        guard let bytes = PercentEncoding.decode(text) else {
            throw Fault(description: "has a % in \(part) that is not followed by two hexadecimal digits")
        }
        guard let decoded = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            throw Fault(description: "has \(part) that is not text after percent-decoding")
        }
        return decoded
    }

    /// The URL without user and password, for people.
    package var redacted: String { shown("") }

    /// The URL with its user, and without its password.
    package var redactedWithUser: String {
        let reserved = Set(":@/?#%".utf8)
        let user = credentials.map { PercentEncoding.encode($0.user.utf8) { reserved.contains($0) } }
        return shown(user.map { "\($0):<redacted>@" } ?? "")
    }

    private func shown(_ user: String) -> String {
        let shownHost = host.contains(":") ? "[\(host)]" : host
        let path = virtualHost == "/" ? "/" : "/" + virtualHost
        return "\(usesTLS ? "amqps" : "amqp")://\(user)\(shownHost):\(port)\(path)"
    }
}

extension AMQPURL: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// What may be shown: `redacted`.
    package var description: String { redacted }

    package var debugDescription: String { description }

    /// Nothing more than the description, also for `dump`.
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension [AMQPURL] {
    /// What `body` gives for the first of the URLs that it does not throw for; throws the last one's error.
    ///
    /// There must be at least one.
    package func firstReached<Reached, Fault: Error>(
        isolation: isolated (any Actor)? = #isolation,
        _ body: (AMQPURL) async throws(Fault) -> Reached
    ) async throws(Fault) -> Reached {
        for url in dropLast() {
            do throws(Fault) { return try await body(url) } catch { continue }
        }
        return try await body(self[count - 1])
    }
}
