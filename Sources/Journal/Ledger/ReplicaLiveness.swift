/// What one replica has seen of the lives of the others, by its own monotonic clock.
///
/// Each sees it at another moment: it must never decide anything that all have to agree on.
struct ReplicaLiveness: Sendable {
    /// Between two questions about the same replica, whoever asks.
    private static let interval = Duration.seconds(1)

    private var askedAt: [String: ContinuousClock.Instant] = [:]
    private var goneSince: [String: ContinuousClock.Instant] = [:]

    /// Whether it is time to ask the broker about a replica; true for one caller only.
    mutating func mustAsk(about replica: String, now: ContinuousClock.Instant) -> Bool {
        if let last = askedAt[replica], now - last < Self.interval { return false }
        askedAt[replica] = now
        return true
    }

    /// Notes what the broker has said.
    mutating func note(_ replica: String, isAlive: Bool, now: ContinuousClock.Instant) {
        goneSince[replica] = isAlive ? nil : goneSince[replica] ?? now
    }

    /// Whether a replica has been gone for so long.
    func isGone(_ replica: String, for patience: Duration, now: ContinuousClock.Instant) -> Bool {
        goneSince[replica].map { now - $0 >= patience } ?? false
    }
}
