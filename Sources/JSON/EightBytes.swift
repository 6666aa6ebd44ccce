/// Eight bytes of a text at once: most texts are long, and nearly all of their bytes are ordinary.
///
/// Source: Anderson, "Bit Twiddling Hacks", "Determine if a word has a byte less than n".
package struct EightBytes {
    @usableFromInline let word: UInt64

    /// The bytes from an index on, nil if fewer are left.
    @inlinable @inline(__always) package init?(_ bytes: Span<UInt8>, from index: Int) {
        guard bytes.count - index >= 8 else { return nil }
        word = unsafe bytes.bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self)
    }

    /// Whether one of them is below a limit of at most 128.
    @inlinable @inline(__always) package func hasByte(below limit: UInt8) -> Bool {
        (word &- Self.all(limit)) & ~word & Self.all(0x80) != 0
    }

    /// Whether one of them is that byte.
    @inlinable @inline(__always) package func has(_ byte: UInt8) -> Bool {
        EightBytes(word: word ^ Self.all(byte)).hasByte(below: 1)
    }

    /// Whether all are ASCII.
    @inlinable @inline(__always) package var areASCII: Bool { word & Self.all(0x80) == 0 }

    @inlinable @inline(__always) init(word: UInt64) {
        self.word = word
    }

    @inlinable @inline(__always) static func all(_ byte: UInt8) -> UInt64 { UInt64(byte) &* 0x0101_0101_0101_0101 }
}
