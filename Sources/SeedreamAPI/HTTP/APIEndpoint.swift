import NIOCore

/// Where the API is: the parts of a base URL such as `https://api.example.com/base`.
///
/// Source: RFC 3986 §3.2, RFC 9110 §4.2.
struct APIEndpoint: Hashable, Sendable {
    /// Whether TLS is spoken.
    let isSecure: Bool
    /// The host's name, or its address without brackets.
    let host: String
    /// The TCP port.
    let port: Int
    /// The `Host` field: as in the URL, the scheme's own port left out.
    let hostField: String
    /// What stands before the path of an operation, without a slash at its end.
    let path: String

    /// Takes `scheme://host[:port][/path]` apart; nil where the text is nothing of the kind.
    init?(_ url: String) {
        let parts = url.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count >= 3, parts[1].isEmpty else { return nil }
        switch parts[0].lowercased() {
        case "https:": isSecure = true
        case "http:": isSecure = false
        default: return nil
        }
        var host = parts[2]
        var port: Int?
        // The last colon, unless it stands within an IPv6 address.
        if let colon = host.lastIndex(of: ":"), !host.hasSuffix("]") {
            guard let number = UInt16(host[host.index(after: colon)...]), number > 0 else { return nil }
            port = Int(number)
            host = host[..<colon]
        }
        let standard = isSecure ? 443 : 80
        self.port = port ?? standard
        hostField = self.port == standard ? String(host) : "\(host):\(self.port)"
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty else { return nil }
        self.host = String(host)
        path = parts.count > 3 && !parts[3].isEmpty ? "/\(parts[3])" : ""
    }

    /// `HOST:PORT`, for people.
    var address: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// The socket address where the host is no name, nil where a resolver must be asked.
    var socketAddress: SocketAddress? { try? SocketAddress(ipAddress: host, port: port) }
}
