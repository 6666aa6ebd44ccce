/// The date as the messages of the ledger tell it, for what all replicas have to agree on: what counts towards the budget,
/// and who is forgotten.
///
/// Each message has the date of its writer, whose clock may be wrong. A leap of more than a minute therefore counts only
/// when another replica confirms it, or when its writer has reported three times and no other has contradicted.
struct FleetClock: Hashable, Sendable {
    /// The date was found to be another one.
    struct Move: Hashable, Sendable {
        let from: Int64
        let to: Int64

        /// What was dated before; what came while the leap was not believed yet came after it.
        func applied(to date: Int64) -> Int64 { date > min(from, to) ? to : date }
    }

    private struct Leap: Hashable, Sendable {
        let replica: String
        let at: Int64
        var reports = 0
        var reportedAt: Int64?
    }

    /// What two clocks may differ by, in milliseconds, and more than passes between two messages of replicas that live.
    private static let tolerance: Int64 = 60_000
    private static let reportsOfOne = 3
    /// Between two reports that count: a replica reports at once, too, when its gate changes.
    private static let interval: Int64 = 9_000

    /// In milliseconds since 1970; nil before the first message.
    private(set) var now: Int64?
    private var leap: Leap?

    /// Takes note of a message's date; nil unless that makes a leap.
    mutating func read(_ message: LedgerMessage) -> Move? {
        guard let now else {
            self.now = message.at
            return nil
        }
        if Self.isNear(message.at, now) {
            (self.now, leap) = (max(now, message.at), nil)
            return nil
        }
        var leap = leap ?? Leap(replica: message.replica, at: message.at)
        if !Self.isNear(message.at, leap.at), message.replica != leap.replica {
            leap = Leap(replica: message.replica, at: message.at)
        }
        if message.records.contains(where: { $0.kind == "alive" }),
            leap.reportedAt.map({ isLater(message.at, than: $0) }) ?? true
        {
            leap.reports += 1
            leap.reportedAt = message.at
        }
        guard message.replica != leap.replica || leap.reports >= Self.reportsOfOne else {
            self.leap = leap
            return nil
        }
        (self.now, self.leap) = (message.at, nil)
        return Move(from: now, to: message.at)
    }

    private func isLater(_ one: Int64, than other: Int64) -> Bool {
        let (difference, overflows) = one.subtractingReportingOverflow(other)
        return !overflows && difference >= Self.interval
    }

    /// The date at a moment of a replica's own clock if that is believed, and otherwise just after the last one that was.
    func reading(_ own: Int64) -> Int64 {
        guard let now else { return own }
        return Self.isNear(own, now) ? max(own, now) : now + 1
    }

    private static func isNear(_ one: Int64, _ other: Int64) -> Bool {
        let (difference, overflows) = one.subtractingReportingOverflow(other)
        return !overflows && difference.magnitude <= UInt64(tolerance)
    }
}
