import EditJob
import Glibc

/// A job's id and entry in one piece of memory: a journal holds a hundred thousand of them.
///
/// UUIDs take their 16 bytes, and what is zero nothing: 96 bytes an entry instead of 160. Equal to every entry of the same
/// job, so that a set of them is a table.
struct PackedEntry: Hashable, Sendable {
    /// The id, a byte of flags, and what `JournalEntry` has, little-endian.
    private let bytes: [UInt8]

    /// What is needed to look for a job.
    init(probing id: String) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(5 + id.utf8.count)
        Self.append(id: id, to: &bytes)
        self.bytes = bytes
    }

    /// The entry of a job.
    init(_ entry: JournalEntry, of id: String) {
        let (state, detail) = entry.state.stored
        let uuid = detail.flatMap { PackedUUID($0) }
        var flags = Flags(state: UInt8(truncatingIfNeeded: state))
        if entry.mayBeDuplicate { flags.insert(.mayBeDuplicate) }
        if entry.replay != 0 { flags.insert(.hasReplay) }
        if uuid != nil { flags.insert(.hasUUID) }
        var bytes: [UInt8] = []
        let text = uuid == nil ? detail ?? "" : ""
        bytes.reserveCapacity(5 + id.utf8.count + Self.fixedSize + 8 + (uuid == nil ? text.utf8.count : 16))
        Self.append(id: id, to: &bytes)
        bytes.append(flags.rawValue)
        Self.append(entry.changedAt, to: &bytes)
        Self.append(entry.digest.value, to: &bytes)
        Self.append(Int32(clamping: entry.attempts), to: &bytes)
        if entry.replay != 0 { Self.append(entry.replay, to: &bytes) }
        if let uuid { Self.append(uuid.value, to: &bytes) }
        bytes += text.utf8
        self.bytes = bytes
    }

    /// When the entry last changed, in milliseconds since 1970.
    var changedAt: Int64 { number(at: idEnd + 1) }

    /// The entry; not of a probe.
    var entry: JournalEntry {
        let flags = Flags(rawValue: bytes[idEnd])
        let replayAt = idEnd + Self.fixedSize
        let detailAt = replayAt + (flags.contains(.hasReplay) ? 8 : 0)
        let detail =
            flags.contains(.hasUUID)
            ? PackedUUID(value: number(at: detailAt)).text : String(decoding: bytes[detailAt...], as: UTF8.self)
        return JournalEntry(
            digest: BodyDigest(value: number(at: idEnd + 9)),
            state: .init(stored: Int64(flags.state), detail: detail),
            attempts: Int(number(at: idEnd + 25) as Int32),
            replay: flags.contains(.hasReplay) ? number(at: replayAt) : 0,
            mayBeDuplicate: flags.contains(.mayBeDuplicate),
            changedAt: changedAt
        )
    }

    static func == (one: PackedEntry, other: PackedEntry) -> Bool {
        let end = one.idEnd
        guard end == other.idEnd else { return false }
        return unsafe one.bytes.withUnsafeBytes { one in
            // How the ids are written, and how long they are, may be compared with them.
            unsafe other.bytes.withUnsafeBytes { other in
                guard let one = one.baseAddress, let other = other.baseAddress else { return false }
                return unsafe memcmp(one, other, end) == 0
            }
        }
    }

    func hash(into hasher: inout Hasher) {
        unsafe bytes.withUnsafeBytes { unsafe hasher.combine(bytes: UnsafeRawBufferPointer(rebasing: $0[..<idEnd])) }
    }

    private struct Flags: OptionSet {
        var rawValue: UInt8

        static let mayBeDuplicate = Flags(rawValue: 1 << 3)
        static let hasReplay = Flags(rawValue: 1 << 4)
        static let hasUUID = Flags(rawValue: 1 << 5)

        init(rawValue: UInt8) { self.rawValue = rawValue }

        init(state: UInt8) { rawValue = state & 7 }

        var state: UInt8 { rawValue & 7 }
    }

    /// From the flags to the attempts.
    private static let fixedSize = 29

    /// A UUID has no length, but this in the place of its first byte.
    private static let uuidMark: UInt8 = 0xFF

    private var idEnd: Int {
        bytes[0] == Self.uuidMark ? 17 : 4 + Int((number(at: 0) as UInt32).byteSwapped)
    }

    private static func append(id: String, to bytes: inout [UInt8]) {
        if let uuid = PackedUUID(id) {
            bytes.append(uuidMark)
            append(uuid.value, to: &bytes)
        } else {
            // An id is far shorter than what would begin with the mark.
            append(UInt32(id.utf8.count).byteSwapped, to: &bytes)
            bytes += id.utf8
        }
    }

    private static func append<Number: FixedWidthInteger>(_ number: Number, to bytes: inout [UInt8]) {
        unsafe withUnsafeBytes(of: number.littleEndian) { unsafe bytes.append(contentsOf: $0) }
    }

    private func number<Number: FixedWidthInteger>(at start: Int) -> Number {
        unsafe bytes.withUnsafeBytes {
            unsafe Number(littleEndian: $0.loadUnaligned(fromByteOffset: start, as: Number.self))
        }
    }
}

/// A UUID that is written as most are: 36 characters, in lower case, so that its text can be made again.
///
/// Source: RFC 9562 §4.
struct PackedUUID {
    let value: UInt128

    init(value: UInt128) { self.value = value }

    init?(_ text: String) {
        guard text.utf8.count == 36 else { return nil }
        var halves: (upper: UInt64, lower: UInt64) = (0, 0)
        var index = 0
        for byte in text.utf8 {
            let isDash = index == 8 || index == 13 || index == 18 || index == 23
            index += 1
            let digit: UInt64
            switch byte {
            case UInt8(ascii: "-") where isDash: continue
            case UInt8(ascii: "0")...UInt8(ascii: "9") where !isDash: digit = UInt64(byte &- 0x30)
            case UInt8(ascii: "a")...UInt8(ascii: "f") where !isDash: digit = UInt64(byte &- 0x57)
            default: return nil
            }
            if index <= 18 {
                halves.upper = halves.upper << 4 | digit
            } else {
                halves.lower = halves.lower << 4 | digit
            }
        }
        value = UInt128(halves.upper) << 64 | UInt128(halves.lower)
    }

    var text: String {
        unsafe String(unsafeUninitializedCapacity: 36) { text in
            var rest = value
            for index in stride(from: 35, through: 0, by: -1) {
                if index == 8 || index == 13 || index == 18 || index == 23 {
                    unsafe text[index] = UInt8(ascii: "-")
                    continue
                }
                let digit = UInt8(truncatingIfNeeded: rest & 15)
                unsafe text[index] = digit < 10 ? digit &+ 0x30 : digit &+ 0x57
                rest >>= 4
            }
            return 36
        }
    }
}
