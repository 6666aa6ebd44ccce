/// The parts of `scheme://[user@]host[:port][/path][?query][#fragment]`, as they are written.
///
/// Source: RFC 3986 §3. Our own: Foundation's URL mends what is wrong in a text instead of refusing it, and URLs of AMQP and of
/// proxies have rules of their own, which say what is wrong without quoting a password.
package struct URLParts: Hashable, Sendable {
    /// In lower case.
    package let scheme: String
    /// What stands before the last `@` of the authority; nil without one.
    package let user: Substring?
    /// Host and port, which `HostAndPort` reads.
    package let address: Substring
    /// Path, query and fragment.
    package let rest: Substring

    /// Nil if the text does not begin with a scheme and `://`.
    package init?(_ text: some StringProtocol) {
        let text = Substring(text)
        let bytes = text.utf8
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")), colon > bytes.startIndex,
            bytes[colon...].starts(with: "://".utf8)
        else { return nil }
        scheme = text[..<colon].lowercased()
        let start = bytes.index(colon, offsetBy: 3)
        let end =
            bytes[start...].firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") }
            ?? bytes.endIndex
        rest = text[end...]
        if let at = bytes[start..<end].lastIndex(of: UInt8(ascii: "@")) {
            user = text[start..<at]
            address = text[bytes.index(after: at)..<end]
        } else {
            user = nil
            address = text[start..<end]
        }
    }

    /// Whether the scheme is `http` or `https`.
    package var isWeb: Bool { scheme == "http" || scheme == "https" }
}
