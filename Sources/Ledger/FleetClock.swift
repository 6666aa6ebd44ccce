/// The date as the messages of the ledger tell it, for what all replicas have to agree on: what counts towards the budget,
/// and who is forgotten.
///
/// Each message has the date of its writer, whose clock may be wrong. A leap of more than a minute therefore counts only
/// when another replica confirms it, or when its writer has reported three times and nobody has contradicted.
struct FleetClock: Hashable, Sendable {
    private struct Leap: Hashable, Sendable {
        let replica: String
        let at: Int64
        var reports = 0
    }

    /// What two clocks may differ by, in milliseconds, and more than passes between two messages of replicas that live.
    private static let tolerance: Int64 = 60_000
    private static let reportsOfOne = 3

    /// In milliseconds since 1970; nil before the first message.
    private(set) var now: Int64?
    private var leap: Leap?

    /// Takes note of a message's date; how far the date was set back, in milliseconds, or 0.
    mutating func read(_ message: LedgerMessage) -> Int64 {
        guard let now else {
            self.now = message.at
            return 0
        }
        if Self.isNear(message.at, now) {
            (self.now, leap) = (max(now, message.at), nil)
            return 0
        }
        var leap = leap ?? Leap(replica: message.replica, at: message.at)
        if !Self.isNear(message.at, leap.at), message.replica != leap.replica {
            leap = Leap(replica: message.replica, at: message.at)
        }
        if message.records.contains(where: { $0.kind == "alive" }) { leap.reports += 1 }
        guard message.replica != leap.replica || leap.reports >= Self.reportsOfOne else {
            self.leap = leap
            return 0
        }
        (self.now, self.leap) = (message.at, nil)
        return max(0, now.subtractingReportingOverflow(message.at).partialValue)
    }

    /// The date at a moment of a replica's own clock, if that is believed.
    func reading(_ own: Int64) -> Int64 {
        guard let now else { return own }
        return Self.isNear(own, now) ? max(own, now) : now
    }

    private static func isNear(_ one: Int64, _ other: Int64) -> Bool {
        let (difference, overflows) = one.subtractingReportingOverflow(other)
        return !overflows && difference.magnitude <= UInt64(tolerance)
    }
}
