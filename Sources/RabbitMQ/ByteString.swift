/// A string as AMQP carries it: bytes that are usually, but not certainly, UTF-8.
///
/// Names, identifiers and header values are kept as they came, so that a copy of a message is the same message
/// even if a producer wrote Latin-1. Source: AMQP 0-9-1 §4.2.5.3.
package struct ByteString: Hashable, Sendable {
    /// The bytes on the wire.
    package let bytes: [UInt8]

    /// Takes the bytes as they are.
    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// Takes the UTF-8 bytes of a text.
    package init(_ text: some StringProtocol) {
        self.bytes = Array(text.utf8)
    }

    /// The text, with U+FFFD where the bytes are no UTF-8: for logs and errors.
    package var text: String { String(decoding: bytes, as: UTF8.self) }

    /// The text, or nil if the bytes are no UTF-8.
    package var exactText: String? { String(validating: bytes, as: UTF8.self) }

    /// Whether there are no bytes.
    package var isEmpty: Bool { bytes.isEmpty }
}

extension ByteString: ExpressibleByStringLiteral {
    package init(stringLiteral value: String) {
        self.init(value)
    }
}

extension ByteString: CustomStringConvertible {
    package var description: String { text }
}
