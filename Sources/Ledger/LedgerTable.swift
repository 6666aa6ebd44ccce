import EditJob
import Journal

/// What the ledger remembers of jobs that have ended, in 32 bytes each: a million of them take 40 to 55 MiB.
///
/// A dictionary of entries took 370 bytes each, and the standard library has no table without room for the whole key. Keys
/// are 64-bit hashes, the same in every replica: two of a million jobs meet with a chance of one in 37 million, and then the
/// later one is answered as another job of the same id.
struct LedgerTable: Hashable, Sendable {
    /// A finished job without its texts.
    struct Row: Hashable, Sendable {
        enum State: UInt8, Sendable {
            case accepted = 1
            case failed
            case refused
        }

        /// The lower half of the digest of what was submitted.
        var digest: UInt64
        /// Where the record stands that ended it.
        var offset: Int64
        var attempts: Int
        var replay: Int64
        var state: State
        var mayBeDuplicate: Bool
        /// For a failure, which is a definite no.
        var code: JobFailure.Code?
        var httpStatus: Int?
        /// Seconds since 1970.
        var changedAt: Int64

        private static let codes = JobFailure.Code.allCases

        /// Whether it fits a slot; what does not is kept whole elsewhere.
        var isPackable: Bool {
            (0..<(1 << 40)).contains(offset) && (0..<(1 << 12)).contains(attempts) && (0..<(1 << 12)).contains(replay)
                && (0..<(1 << 32)).contains(changedAt) && (0..<(1 << 10)).contains(httpStatus ?? 0)
        }

        fileprivate var packed: (UInt64, UInt64) {
            let numbers = UInt64(offset) | UInt64(attempts) << 40 | UInt64(replay) << 52
            let code = code.flatMap { Self.codes.firstIndex(of: $0) }.map { $0 + 1 } ?? 0
            var rest = UInt64(changedAt) | UInt64(state.rawValue) << 32
            rest |= (mayBeDuplicate ? 1 : 0) << 35 | UInt64(code) << 36 | UInt64(httpStatus ?? 0) << 44
            return (numbers, rest)
        }

        fileprivate init(digest: UInt64, _ numbers: UInt64, _ rest: UInt64) {
            self.digest = digest
            offset = Int64(numbers & (1 << 40 - 1))
            attempts = Int(numbers >> 40 & (1 << 12 - 1))
            replay = Int64(numbers >> 52)
            state = State(rawValue: UInt8(rest >> 32 & 7)) ?? .accepted
            mayBeDuplicate = rest >> 35 & 1 == 1
            let code = Int(rest >> 36 & 0xFF)
            self.code = code > 0 && code <= Self.codes.count ? Self.codes[code - 1] : nil
            let status = Int(rest >> 44 & (1 << 10 - 1))
            httpStatus = status > 0 ? status : nil
            changedAt = Int64(rest & (1 << 32 - 1))
        }

        init(
            digest: UInt64,
            offset: Int64,
            attempts: Int,
            replay: Int64,
            state: State,
            mayBeDuplicate: Bool,
            code: JobFailure.Code?,
            httpStatus: Int?,
            changedAt: Int64
        ) {
            self.digest = digest
            self.offset = offset
            self.attempts = attempts
            self.replay = replay
            self.state = state
            self.mayBeDuplicate = mayBeDuplicate
            self.code = code
            self.httpStatus = httpStatus
            self.changedAt = changedAt
        }
    }

    /// Open addressing with linear probing.
    ///
    /// Grows by a half: doubling would leave the table up to two thirds empty.
    private struct Shard: Hashable, Sendable {
        private struct Slot: Hashable, Sendable {
            /// 0 for one that is free.
            var key: UInt64 = 0
            var digest: UInt64 = 0
            var numbers: UInt64 = 0
            var rest: UInt64 = 0
        }

        private var slots: [Slot]
        private(set) var count = 0

        init(capacity: Int = 8) {
            slots = Array(repeating: Slot(), count: capacity)
        }

        private func home(_ key: UInt64) -> Int {
            // The upper bits chose the shard.
            Int((key & 0xFFFF_FFFF_FFFF) % UInt64(slots.count))
        }

        /// The key's slot, or the free one where it would go.
        private func index(of key: UInt64) -> Int {
            var index = home(key)
            while slots[index].key != 0, slots[index].key != key { index = index + 1 == slots.count ? 0 : index + 1 }
            return index
        }

        subscript(key: UInt64) -> Row? {
            let slot = slots[index(of: key)]
            return slot.key == key ? Row(digest: slot.digest, slot.numbers, slot.rest) : nil
        }

        mutating func set(_ key: UInt64, _ row: Row) {
            if (count + 1) * 10 > slots.count * 9 { rebuild(capacity: slots.count * 3 / 2 + 1) { _ in true } }
            let index = index(of: key)
            if slots[index].key == 0 { count += 1 }
            let (numbers, rest) = row.packed
            slots[index] = Slot(key: key, digest: row.digest, numbers: numbers, rest: rest)
        }

        mutating func remove(_ key: UInt64) {
            var hole = index(of: key)
            guard slots[hole].key == key else { return }
            count -= 1
            // What was pushed past the hole moves back, so that no mark of a removed slot is needed.
            var next = hole
            while true {
                next = next + 1 == slots.count ? 0 : next + 1
                guard slots[next].key != 0 else { break }
                let home = home(slots[next].key)
                let staysBehind = hole <= next ? home <= hole || home > next : home <= hole && home > next
                if staysBehind {
                    slots[hole] = slots[next]
                    hole = next
                }
            }
            slots[hole] = Slot()
        }

        mutating func removeAll(where isOld: (_ offset: Int64, _ changedAt: Int64) -> Bool) {
            func isOldSlot(_ slot: Slot) -> Bool {
                isOld(Int64(slot.numbers & (1 << 40 - 1)), Int64(slot.rest & (1 << 32 - 1)))
            }
            let old = slots.count { $0.key != 0 && isOldSlot($0) }
            guard old > 0 else { return }
            rebuild(capacity: max(8, (count - old) * 5 / 4 + 1)) { !isOldSlot($0) }
        }

        private mutating func rebuild(capacity: Int, keeping isKept: (Slot) -> Bool) {
            let old = slots
            slots = Array(repeating: Slot(), count: capacity)
            count = 0
            for slot in old where slot.key != 0 && isKept(slot) {
                slots[index(of: slot.key)] = slot
                count += 1
            }
        }
    }

    /// Many small tables: while one grows, it and its successor are in memory, and they are a 256th of all.
    private var shards = Array(repeating: Shard(), count: 256)

    private(set) var count = 0

    /// Most shards are empty in a table of few jobs.
    func hash(into hasher: inout Hasher) {
        hasher.combine(count)
        for shard in shards where shard.count > 0 { hasher.combine(shard) }
    }

    /// The key of a job id, the same in every replica and version.
    static func key(_ id: String) -> UInt64 {
        let hash = BodyDigest(Array(id.utf8)).value
        let key = UInt64(truncatingIfNeeded: hash) ^ UInt64(truncatingIfNeeded: hash >> 64)
        // The multiplication of FNV leaves short ids alike in the upper bits.
        let mixed = (key ^ key >> 32) &* 0x9E37_79B9_7F4A_7C15
        return mixed == 0 ? 1 : mixed
    }

    subscript(id: String) -> Row? {
        get {
            let key = Self.key(id)
            return shards[Int(key >> 56)][key]
        }
        set {
            let key = Self.key(id)
            let shard = Int(key >> 56)
            let before = shards[shard].count
            if let newValue { shards[shard].set(key, newValue) } else { shards[shard].remove(key) }
            count += shards[shard].count - before
        }
    }

    /// Forgets what stands before an offset and has changed before a moment, in seconds since 1970.
    mutating func removeAll(before first: Int64, changedBefore moment: Int64) {
        count = 0
        for index in shards.indices {
            shards[index].removeAll { offset, changedAt in offset < first && changedAt < moment }
            count += shards[index].count
        }
    }
}
