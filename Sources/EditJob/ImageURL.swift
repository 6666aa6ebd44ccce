import JSON
import SharedValues

/// The rules for an image's URL, which must be one that any HTTP client can use as it stands.
///
/// Source: RFC 3986 §3, RFC 9110 §4.2. Non-ASCII is refused because clients disagree on how to encode it.
enum ImageURL {
    static let maximumBytes = 8192

    /// What is wrong with a URL, nil if nothing is; the text is not quoted, since it may carry a signature.
    static func fault(in url: String) -> String? {
        let bytes = url.utf8.span
        guard !bytes.isEmpty else { return "is empty; it must be an absolute http or https URL" }
        guard bytes.count <= maximumBytes else {
            return "is \(bytes.count) bytes long; at most \(maximumBytes) are allowed"
        }
        if let fault = characterFault(bytes) { return fault }
        guard let parts = URLParts(url), parts.isWeb else {
            return "is not an absolute http or https URL such as https://example.com/a.png"
        }
        guard parts.user == nil else { return "has user information before an @, which is not allowed" }
        return authorityFault(parts.address)
    }

    private static func characterFault(_ bytes: Span<UInt8>) -> String? {
        var index = 0
        while index < bytes.count {
            defer { index += 1 }
            switch bytes[index] {
            case 0: return "has a NUL character"
            case 0x20, 0x09...0x0D: return "has white space; write %20"
            case 0x01...0x1F, 0x7F: return "has a control character"
            case 0x80...: return "has a non-ASCII character; percent-encode it, a host name in its xn-- form"
            case UInt8(ascii: "\\"): return "has a backslash; write / or %5C"
            case UInt8(ascii: "%"):
                guard index + 2 < bytes.count, isHexDigit(bytes[index + 1]), isHexDigit(bytes[index + 2]) else {
                    return "has a % that is not followed by two hexadecimal digits; write %25 for the character itself"
                }
            default: continue
            }
        }
        return nil
    }

    private static func authorityFault(_ authority: Substring) -> String? {
        let portFault = "has a colon behind its host without a port from 1 to 65535"
        do throws(HostAndPort.Fault) {
            let address = try HostAndPort(authority)
            if authority.utf8.first == UInt8(ascii: "["), !isIPv6(address.host) {
                return "has no valid IPv6 address between [ and ]"
            }
            return address.port == 0 || authority.utf8.last == UInt8(ascii: ":") ? portFault : nil
        } catch {
            return switch error {
            case .noHost where authority.hasPrefix("["): "has no valid IPv6 address between [ and ]"
            case .noHost: "has no host"
            case .openBracket: "has a [ without a ] in its host"
            case .textAfterBracket: "has text between its host and its port"
            case .port: portFault
            }
        }
    }

    /// RFC 4291 §2.2: up to eight groups of up to four digits, one gap `::`, the last two groups perhaps as IPv4.
    private static func isIPv6(_ text: Substring) -> Bool {
        let halves = text.split(separator: "::", omittingEmptySubsequences: false)
        guard halves.count <= 2 else { return false }
        var groups = 0
        for (index, half) in halves.enumerated() where !half.isEmpty {
            let parts = half.split(separator: ":", omittingEmptySubsequences: false)
            for (position, part) in parts.enumerated() {
                let isLast = index == halves.count - 1 && position == parts.count - 1
                if isLast, part.contains(".") {
                    guard isIPv4(part) else { return false }
                    groups += 2
                } else {
                    guard (1...4).contains(part.utf8.count), part.utf8.allSatisfy(isHexDigit) else { return false }
                    groups += 1
                }
            }
        }
        return halves.count == 2 ? groups <= 7 : groups == 8
    }

    private static func isIPv4(_ text: Substring) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4
            && parts.allSatisfy { part in
                part.utf8.count <= 3 && part.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
                    && UInt8(part) != nil
            }
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"):
            true
        default: false
        }
    }
}
