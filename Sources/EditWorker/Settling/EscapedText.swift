/// Reads the escapes in which an answer may repeat a text: of JSON, of URLs and of HTML.
enum EscapedText {
    /// The text with its escapes read, once; those that mean nothing stay.
    static func read(_ text: String) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.first {
            if let (decoded, length) = escape(rest) {
                bytes += decoded
                rest = rest.dropFirst(length)
            } else {
                bytes.append(byte)
                rest.removeFirst()
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether something in a word looks like an escape.
    static func hasEscape(_ word: some StringProtocol) -> Bool {
        let word = String(word)
        return word.contains(/\\u|\\x|&#|&[A-Za-z][A-Za-z0-9]{1,31};|=\?|%[0-9A-Fa-f]{2}/)
    }

    /// The bytes that the escape at the front stands for, and its own length; nil if there is none.
    private static func escape(_ text: Substring.UTF8View) -> (bytes: [UInt8], length: Int)? {
        switch text.first {
        case UInt8(ascii: "%"):
            return number(text.dropFirst().prefix(2), count: 2).map { ([UInt8(truncatingIfNeeded: $0)], 3) }
        case UInt8(ascii: "\\"): return backslash(text)
        case UInt8(ascii: "&"): return entity(text)
        default: return nil
        }
    }

    /// RFC 8259 §7.
    private static func backslash(_ text: Substring.UTF8View) -> (bytes: [UInt8], length: Int)? {
        let rest = text.dropFirst()
        switch rest.first {
        case UInt8(ascii: "n"), UInt8(ascii: "t"), UInt8(ascii: "r"), UInt8(ascii: "b"), UInt8(ascii: "f"):
            return ([UInt8(ascii: " ")], 2)
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return ([rest[rest.startIndex]], 2)
        case UInt8(ascii: "x"):
            return number(rest.dropFirst().prefix(2), count: 2).flatMap { scalar($0) }.map { ($0, 4) }
        case UInt8(ascii: "u"):
            guard let high = number(rest.dropFirst().prefix(4), count: 4) else { return nil }
            let next = rest.dropFirst(5)
            guard (0xD800...0xDBFF).contains(high), next.starts(with: "\\u".utf8),
                let low = number(next.dropFirst(2).prefix(4), count: 4), (0xDC00...0xDFFF).contains(low)
            else { return scalar(high).map { ($0, 6) } }
            return scalar(0x10000 + (high - 0xD800) << 10 + (low - 0xDC00)).map { ($0, 12) }
        default: return nil
        }
    }

    private static let named: [String: UInt32] = [
        "amp": 0x26, "lt": 0x3C, "gt": 0x3E, "quot": 0x22, "apos": 0x27, "nbsp": 0x20,
    ]

    private static func entity(_ text: Substring.UTF8View) -> (bytes: [UInt8], length: Int)? {
        let window = text.prefix(12)
        guard let end = window.firstIndex(of: UInt8(ascii: ";")) else { return nil }
        let name = window[window.index(after: window.startIndex)..<end]
        let length = name.count + 2
        guard name.first == UInt8(ascii: "#") else {
            return named[String(decoding: name, as: UTF8.self)].flatMap { scalar($0) }.map { ($0, length) }
        }
        let digits = name.dropFirst()
        let isHexadecimal = digits.first == UInt8(ascii: "x") || digits.first == UInt8(ascii: "X")
        let text = String(decoding: isHexadecimal ? digits.dropFirst() : digits, as: UTF8.self)
        return UInt32(text, radix: isHexadecimal ? 16 : 10).flatMap { scalar($0) }.map { ($0, length) }
    }

    private static func number(_ digits: Substring.UTF8View.SubSequence, count: Int) -> UInt32? {
        guard digits.count == count, digits.first != UInt8(ascii: "+"), digits.first != UInt8(ascii: "-") else {
            return nil
        }
        return UInt32(String(decoding: digits, as: UTF8.self), radix: 16)
    }

    private static func scalar(_ value: UInt32) -> [UInt8]? {
        Unicode.Scalar(value).map { Array(String(Character($0)).utf8) }
    }
}
