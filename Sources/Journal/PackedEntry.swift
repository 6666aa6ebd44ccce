import EditJob

/// A job's id and entry in one piece of memory: a journal holds a hundred thousand of them.
///
/// UUIDs take their 16 bytes, and what is zero nothing: some 96 bytes per entry. With a dictionary of entries instead, a worker has
/// 41 MiB of resident memory after 30 000 jobs instead of 33. Equal to every entry of the same job, so that a set of them is a
/// table.
struct PackedEntry: Hashable, Sendable {
    /// The id, a byte of flags, and what `JournalEntry` has, little-endian.
    private let bytes: PackedBytes

    /// What is needed to look for a job.
    init(probing id: String) {
        let id = PackedID(id)
        var bytes = PackedBytes(capacity: id.size)
        id.append(to: &bytes)
        self.bytes = bytes
    }

    /// The entry of a job.
    init(_ entry: JournalEntry, of id: String) {
        let id = PackedID(id)
        let (state, detail) = entry.state.stored
        let uuid = detail.flatMap { PackedUUID($0) }
        var flags = Flags(state: UInt8(truncatingIfNeeded: state))
        if entry.mayBeDuplicate { flags.insert(.mayBeDuplicate) }
        if entry.replay != 0 { flags.insert(.hasReplay) }
        if uuid != nil { flags.insert(.hasUUID) }
        let text = uuid == nil ? detail ?? "" : ""
        let detailSize = uuid == nil ? 4 + text.utf8.count : 16
        let size = id.size + Self.fixedSize + (entry.replay != 0 ? 8 : 0) + detailSize
        var bytes = PackedBytes(capacity: size)
        id.append(to: &bytes)
        bytes.append(flags.rawValue)
        bytes.append(entry.changedAt)
        bytes.append(entry.digest.value)
        bytes.append(Int32(clamping: entry.attempts))
        if entry.replay != 0 { bytes.append(entry.replay) }
        if let uuid { bytes.append(uuid.value) } else { bytes.append(text) }
        self.bytes = bytes
    }

    /// When the entry last changed, in milliseconds since 1970.
    var changedAt: Int64 { bytes.number(at: idEnd + 1) }

    /// The entry; not of a probe.
    var entry: JournalEntry {
        let idEnd = idEnd
        let flags = Flags(rawValue: bytes.number(at: idEnd))
        let replayAt = idEnd + Self.fixedSize
        let detailAt = replayAt + (flags.contains(.hasReplay) ? 8 : 0)
        let detail =
            flags.contains(.hasUUID) ? PackedUUID(value: bytes.number(at: detailAt)).text : bytes.text(at: detailAt)
        return JournalEntry(
            digest: BodyDigest(value: bytes.number(at: idEnd + 9)),
            state: .init(stored: Int64(flags.state), detail: detail),
            attempts: Int(bytes.number(at: idEnd + 25) as Int32),
            replay: flags.contains(.hasReplay) ? bytes.number(at: replayAt) : 0,
            mayBeDuplicate: flags.contains(.mayBeDuplicate),
            changedAt: changedAt
        )
    }

    static func == (one: PackedEntry, other: PackedEntry) -> Bool {
        // How the ids are written, and how long they are, may be compared with them.
        one.bytes.first(one.idEnd) == other.bytes.first(other.idEnd)
    }

    func hash(into hasher: inout Hasher) {
        unsafe bytes.first(idEnd).withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
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

    private var idEnd: Int {
        bytes.number(at: 0) == PackedID.uuidMark ? 17 : bytes.textEnd(at: 0)
    }
}

/// An id as it is packed: a UUID, or its length and its text.
private enum PackedID {
    case uuid(PackedUUID)
    case text(String)

    /// A UUID has no length, but this in the place of its first byte: more than any other id has.
    static let uuidMark: UInt8 = 0xFF

    init(_ id: String) {
        self = PackedUUID(id).map { .uuid($0) } ?? .text(id)
    }

    var size: Int {
        switch self {
        case .uuid: 17
        case .text(let text): 4 + text.utf8.count
        }
    }

    func append(to bytes: inout PackedBytes) {
        switch self {
        case .uuid(let uuid):
            bytes.append(Self.uuidMark)
            bytes.append(uuid.value)
        case .text(let text): bytes.append(text)
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
