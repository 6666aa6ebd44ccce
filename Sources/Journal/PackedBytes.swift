/// Numbers and texts in a row of bytes, whose places follow from what they hold.
struct PackedBytes: Hashable, Sendable {
    private var bytes: [UInt8] = []

    /// No bytes yet, and room for `count`, so that the array has no more.
    init(capacity count: Int) { bytes.reserveCapacity(count) }

    /// Appends a number, its lowest byte first.
    mutating func append<Number: FixedWidthInteger>(_ number: Number) {
        var rest = number
        for _ in 0..<Number.bitWidth / 8 {
            bytes.append(UInt8(truncatingIfNeeded: rest))
            rest >>= 8
        }
    }

    /// Appends the length, whose first byte is never 0xFF, and then the text.
    mutating func append(_ text: String) {
        append(UInt32(clamping: text.utf8.count).byteSwapped)
        bytes += text.utf8
    }

    /// The number that begins at an offset.
    func number<Number: FixedWidthInteger>(at start: Int) -> Number {
        var number: Number = 0
        for byte in bytes[start..<(start + Number.bitWidth / 8)].reversed() {
            number = number << 8 | Number(truncatingIfNeeded: byte)
        }
        return number
    }

    /// The text whose length begins at an offset.
    func text(at start: Int) -> String { String(decoding: bytes[(start + 4)..<textEnd(at: start)], as: UTF8.self) }

    /// Where the text ends whose length begins at an offset.
    func textEnd(at start: Int) -> Int { start + 4 + Int((number(at: start) as UInt32).byteSwapped) }

    /// The first `count` bytes.
    func first(_ count: Int) -> ArraySlice<UInt8> { bytes[..<count] }
}
