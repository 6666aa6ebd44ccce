/// An HTTP proxy that opens tunnels (RFC 9110 §9.3.6): `http://[USER:PASSWORD@]HOST:PORT`.
///
/// Its description never shows user and password.
package struct ProxyAddress: Hashable, Sendable {
    /// What is wrong with a text, in words that quote nothing of it.
    package struct Fault: Error, Hashable, Sendable {
        package let description: String
    }

    /// Host name or address, an IPv6 address without its brackets.
    package let host: String
    package let port: UInt16
    /// `USER:PASSWORD`, percent-decoded; nil without a user.
    package let credentials: [UInt8]?

    /// Reads the URL; the port is 80 unless given.
    package init(parsing text: String) throws(Fault) {
        guard let parts = URLParts(text), parts.scheme == "http" else {
            throw Fault(description: "is not an http:// URL; other kinds of proxies are not supported")
        }
        guard parts.rest.isEmpty || parts.rest == "/", text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw Fault(
                description: "has more than a host and a port; write a /, ? or # in a password as %2F, %3F or %23"
            )
        }
        if let user = parts.user {
            guard let decoded = PercentEncoding.decode(user) else {
                throw Fault(description: "has a % before the @ that is not followed by two hexadecimal digits")
            }
            credentials = decoded.contains(UInt8(ascii: ":")) ? decoded : decoded + [UInt8(ascii: ":")]
        } else {
            credentials = nil
        }
        guard let address = try? HostAndPort(parts.address), address.port != 0 else {
            throw Fault(description: "has no host, or a port that is not a number from 1 to 65535")
        }
        host = String(address.host)
        port = address.port ?? 80
    }
}

extension ProxyAddress: CustomStringConvertible, CustomReflectable {
    package var description: String { "http://\(host.contains(":") ? "[\(host)]" : host):\(port)" }

    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// Which hosts are reached without a proxy, as `NO_PROXY` lists them.
///
/// Names and suffixes with or without a leading dot, `HOST:PORT`, addresses, and `*` for all. As curl and Go's
/// `httpproxy` read it, but for address ranges.
package struct ProxyExceptions: Hashable, Sendable {
    private let patterns: [String]

    package init(_ list: String) {
        patterns = list.split { $0 == "," || $0.isWhitespace }.map { $0.lowercased() }
    }

    /// Whether a host is reached without a proxy.
    package func contains(host: String, port: Int) -> Bool {
        let host = Self.withoutFinalDot(host.lowercased())
        return patterns.contains { pattern in
            guard pattern != "*" else { return true }
            var name = pattern
            // An IPv6 address without brackets has colons of its own.
            if let address = try? HostAndPort(pattern[...]),
                pattern.filter({ $0 == ":" }).count == 1 || pattern.first == "["
            {
                if let only = address.port, Int(only) != port { return false }
                name = String(address.host)
            }
            if name.hasPrefix("*.") { name.removeFirst() }
            name = Self.withoutFinalDot(name)
            let suffix = name.hasPrefix(".") ? name : ".\(name)"
            return host == suffix.dropFirst() || host.hasSuffix(suffix)
        }
    }

    private static func withoutFinalDot(_ name: String) -> String {
        name.hasSuffix(".") ? String(name.dropLast()) : name
    }
}

/// The proxies that the environment names, as most programs read it: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, each in
/// lower case too, which is preferred.
package struct EnvironmentProxies: Sendable {
    /// A variable and the proxy that it names.
    package struct Named: Sendable {
        package let variable: String
        package let text: String

        package init(variable: String, text: String) {
            self.variable = variable
            self.text = text
        }

        /// The proxy; a host and a port without a scheme are one too.
        package func address() throws(ProxyAddress.Fault) -> ProxyAddress {
            try ProxyAddress(parsing: text.contains("://") ? text : "http://\(text)")
        }
    }

    private let https: Named?
    private let http: Named?
    private let exceptions: ProxyExceptions

    package init(_ environment: [String: String] = [:]) {
        func first(_ names: String...) -> Named? {
            names.lazy
                .compactMap { name in
                    environment[name].flatMap { $0.isEmpty ? nil : Named(variable: name, text: $0) }
                }
                .first
        }
        https = first("https_proxy", "HTTPS_PROXY")
        http = first("http_proxy", "HTTP_PROXY")
        exceptions = ProxyExceptions(first("no_proxy", "NO_PROXY")?.text ?? "")
    }

    /// The proxy for a host; nil for none.
    package func proxy(for host: String, port: Int, isSecure: Bool) -> Named? {
        exceptions.contains(host: host, port: port) ? nil : isSecure ? https : http
    }
}
