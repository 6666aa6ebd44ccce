/// A host and a port as URLs and addresses write them: `host`, `host:port`, `[IPv6]:port`.
///
/// Source: RFC 3986 §3.2.2 and §3.2.3.
package struct HostAndPort: Hashable, Sendable {
    /// What is wrong with a text.
    package enum Fault: Error, Hashable, Sendable {
        /// There is no host.
        case noHost
        /// A `[` is not closed.
        case openBracket
        /// Something stands between the `]` and the port.
        case textAfterBracket
        /// The port is not a number from 0 to 65535.
        case port
    }

    /// The host name or address, an IPv6 address without its brackets; as it was written, also if percent-encoded.
    package let host: Substring
    /// The TCP port, nil if there is none or nothing behind the colon.
    package let port: UInt16?

    package init(_ text: Substring) throws(Fault) {
        var portText: Substring?
        // By bytes: every image of every job has one.
        let bytes = text.utf8
        if bytes.first == UInt8(ascii: "[") {
            guard let end = bytes.firstIndex(of: UInt8(ascii: "]")) else { throw .openBracket }
            host = text[bytes.index(after: bytes.startIndex)..<end]
            let tail = text[bytes.index(after: end)...]
            guard tail.isEmpty || tail.utf8.first == UInt8(ascii: ":") else { throw .textAfterBracket }
            portText = tail.dropFirst()
        } else if let colon = bytes.firstIndex(of: UInt8(ascii: ":")) {
            host = text[..<colon]
            portText = text[bytes.index(after: colon)...]
        } else {
            host = text
        }
        guard !host.isEmpty else { throw .noHost }
        guard let portText, !portText.isEmpty else {
            port = nil
            return
        }
        // `UInt16` takes a sign too.
        guard portText.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let number = UInt16(portText)
        else { throw .port }
        port = number
    }
}
