import EditJob
import Glibc

/// A job's id and entry in one piece of memory: a journal holds a hundred thousand of them.
///
/// Equal to every entry of the same job, so that a set of them is a table.
struct PackedEntry: Hashable, Sendable {
    /// The id's length, the id, and what `JournalEntry` has, little-endian.
    private let bytes: [UInt8]

    /// What is needed to look for a job.
    init(probing id: String) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(4 + id.utf8.count)
        Self.append(UInt32(id.utf8.count), to: &bytes)
        bytes += id.utf8
        self.bytes = bytes
    }

    /// The entry of a job.
    init(_ entry: JournalEntry, of id: String) {
        let (state, detail) = entry.state.stored
        var bytes: [UInt8] = []
        bytes.reserveCapacity(4 + id.utf8.count + Self.fixedSize + (detail?.utf8.count ?? 0))
        Self.append(UInt32(id.utf8.count), to: &bytes)
        bytes += id.utf8
        Self.append(entry.changedAt, to: &bytes)
        Self.append(entry.digest.value, to: &bytes)
        Self.append(entry.replay, to: &bytes)
        Self.append(Int32(clamping: entry.attempts), to: &bytes)
        bytes.append(UInt8(truncatingIfNeeded: state))
        bytes.append(entry.mayBeDuplicate ? 1 : 0)
        bytes += (detail ?? "").utf8
        self.bytes = bytes
    }

    /// When the entry last changed, in milliseconds since 1970.
    var changedAt: Int64 { number(at: idEnd) }

    /// The entry; not of a probe.
    var entry: JournalEntry {
        JournalEntry(
            digest: BodyDigest(value: number(at: idEnd + 8)),
            state: .init(
                stored: Int64(bytes[idEnd + 36]),
                detail: String(decoding: bytes[(idEnd + Self.fixedSize)...], as: UTF8.self)
            ),
            attempts: Int(number(at: idEnd + 32) as Int32),
            replay: number(at: idEnd + 24),
            mayBeDuplicate: bytes[idEnd + 37] != 0,
            changedAt: changedAt
        )
    }

    static func == (one: PackedEntry, other: PackedEntry) -> Bool {
        let end = one.idEnd
        guard end == other.idEnd else { return false }
        return unsafe one.bytes.withUnsafeBytes { one in
            // The lengths are equal, so that the ids may be compared with them.
            unsafe other.bytes.withUnsafeBytes { other in
                guard let one = one.baseAddress, let other = other.baseAddress else { return false }
                return unsafe memcmp(one, other, end) == 0
            }
        }
    }

    func hash(into hasher: inout Hasher) {
        unsafe bytes.withUnsafeBytes { unsafe hasher.combine(bytes: UnsafeRawBufferPointer(rebasing: $0[4..<idEnd])) }
    }

    private static let fixedSize = 38

    private var idEnd: Int { 4 + Int(number(at: 0) as UInt32) }

    private static func append<Number: FixedWidthInteger>(_ number: Number, to bytes: inout [UInt8]) {
        for byte in 0..<(Number.bitWidth / 8) { bytes.append(UInt8(truncatingIfNeeded: number >> (byte * 8))) }
    }

    private func number<Number: FixedWidthInteger>(at start: Int) -> Number {
        unsafe bytes.withUnsafeBytes {
            unsafe Number(littleEndian: $0.loadUnaligned(fromByteOffset: start, as: Number.self))
        }
    }
}
