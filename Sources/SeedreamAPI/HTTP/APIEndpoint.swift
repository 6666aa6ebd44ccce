import NIOCore
import SharedValues

/// Where the API is: the parts of a base URL such as `https://api.example.com/base`.
///
/// Source: RFC 3986 §3.2, RFC 9110 §4.2.
struct APIEndpoint: Hashable, Sendable {
    /// Whether TLS is spoken.
    let isSecure: Bool
    /// The host's name, or its address without brackets.
    let host: String
    let port: Int
    /// The `Host` field: as in the URL, the scheme's own port left out.
    let hostField: String
    /// What stands before the path of an operation, without a slash at its end.
    let path: String

    /// Takes `scheme://host[:port][/path]` apart; nil if the text is nothing of the kind.
    init?(_ url: String) {
        guard let parts = URLParts(url), parts.isWeb, parts.user == nil,
            let address = try? HostAndPort(parts.address), address.port != 0
        else { return nil }
        isSecure = parts.scheme == "https"
        let standard = isSecure ? 443 : 80
        host = String(address.host)
        port = address.port.map { Int($0) } ?? standard
        let name = host.contains(":") ? "[\(host)]" : host
        hostField = port == standard ? name : "\(name):\(port)"
        // A query without a path belongs to the path `/` (RFC 9112 §3.2.1).
        path =
            parts.rest == "/"
            ? "" : parts.rest.hasPrefix("/") || parts.rest.isEmpty ? String(parts.rest) : "/\(parts.rest)"
    }

    /// `HOST:PORT`, for people.
    var address: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// The socket address where the host is no name, nil if a resolver must be asked.
    var socketAddress: SocketAddress? { try? SocketAddress(ipAddress: host, port: port) }
}
