/// Percent-encoding of bytes, RFC 3986 §2.1.
package enum PercentEncoding {
    /// The bytes as visible ASCII: all others, and those that `isReserved` accepts, as `%` and two hexadecimal digits.
    package static func encode(
        _ bytes: some Sequence<UInt8>,
        alsoWhere isReserved: (UInt8) -> Bool = { _ in false }
    ) -> String {
        bytes.reduce(into: "") { text, byte in
            if (0x21...0x7E).contains(byte), !isReserved(byte) {
                text.unicodeScalars.append(UnicodeScalar(byte))
            } else {
                text += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
    }

    /// The bytes that a text stands for; nil if a `%` is not followed by two hexadecimal digits.
    package static func decode(_ text: Substring) -> [UInt8]? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let digits = String(rest.prefix(2)), !digits.hasPrefix("+"),
                let value = UInt8(digits, radix: 16)
            else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return bytes
    }
}
