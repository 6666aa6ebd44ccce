/// Which of the other replicas are gone: those that have been silent for some own heartbeats in a row.
///
/// Counted in heartbeats that were read back, and not in seconds: a time in which the stream did not answer does not count,
/// a process that was suspended wakes up knowing nothing, and no one is asked, since no broker tells reliably who lives
/// (from RabbitMQ 4.2 on the exclusive queue of a killed node stays). Each replica sees it at another moment: it must never
/// decide anything that all have to agree on; who needs it to be decided writes what it has found.
package struct ReplicaSilence: Hashable, Sendable {
    /// Between the moment at which a heartbeat was read back and the next one.
    package static let interval = Duration.seconds(10)

    private let interval: Duration
    /// Heartbeats in a row.
    private let limit: Int
    /// Heartbeats on this connection, each written long enough after the one before was read back.
    private var beats = 0
    /// When the last heartbeat was read back.
    private var lastBeat: ContinuousClock.Instant?
    /// When the heartbeat was written that was not read back yet.
    private var sentAt: ContinuousClock.Instant?
    /// How many heartbeats there had been when a replica was last heard of.
    private var heardAt: [String: Int] = [:]

    /// A replica is gone after a silence of `patience`; of `interval` nothing but tests needs another.
    package init(patience: Duration, interval: Duration = interval) {
        self.interval = interval
        limit = max(1, Int((patience / interval).rounded(.up)))
    }

    /// Begins anew: what was silent on another connection may have been that.
    package mutating func connected() {
        (beats, lastBeat, sentAt, heardAt) = (0, nil, nil, [:])
    }

    /// Whether the next heartbeat is due; never while one is on its way.
    package func isDue(at now: ContinuousClock.Instant) -> Bool {
        guard sentAt == nil else { return false }
        return lastBeat.map { now - $0 >= interval } ?? true
    }

    /// A heartbeat is written.
    package mutating func sent(at now: ContinuousClock.Instant) {
        sentAt = sentAt ?? now
    }

    /// The broker does not read what is sent, and has said so: the waiting begins when it does again.
    package mutating func held(at now: ContinuousClock.Instant) {
        if sentAt != nil { sentAt = now }
    }

    /// For how long the heartbeat that is on its way has not come back; nil if there is none.
    package func waiting(at now: ContinuousClock.Instant) -> Duration? { sentAt.map { now - $0 } }

    /// Whether this replica has not heard of itself for so long that the others may have given it up, as after a suspension.
    package func hasSlept(at now: ContinuousClock.Instant) -> Bool {
        lastBeat.map { now - $0 > max(interval * 2, interval * limit / 2) } ?? false
    }

    /// A report of this replica was read back that was published at that moment; one that comes too early counts for nothing.
    package mutating func readBack(publishedAt: ContinuousClock.Instant, at now: ContinuousClock.Instant) {
        sentAt = nil
        if let lastBeat {
            guard publishedAt - lastBeat >= interval else { return }
            beats += 1
        }
        lastBeat = now
    }

    /// Something of another replica was read.
    package mutating func heard(from replica: String) {
        heardAt[replica] = beats
    }

    /// Whether a replica is gone.
    package func isGone(_ replica: String) -> Bool { beats - (heardAt[replica] ?? 0) >= limit }
}
