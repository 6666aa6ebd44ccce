/// Spaces the starts of submissions evenly, so that no window of `period` ever has more than `count` of them.
///
/// Evenly, and not in bursts, because a burst that a slow connection delays meets the next one at the API.
package struct RateLimit: Hashable, Sendable {
    /// Starts per period.
    package let count: Int
    /// The period.
    package let period: Duration

    /// A limit of at least one start per period.
    package init(count: Int, period: Duration) {
        self.count = count
        self.period = period
    }

    /// Reads `18/10s`; nil where the text is nothing of the kind.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 1)
        guard parts.count == 2, let count = Int(parts[0]), count > 0,
            let period = DurationText.parse(String(parts[1])), period > .zero
        else { return nil }
        self.init(count: count, period: period)
    }

    /// The time between two starts, rounded up: a window must never gain one by rounding.
    package var interval: Duration { period / count + .microseconds(1) }

    /// Jobs that can start within a wait that is held in the worker; more would only wait in vain.
    package func mostHeld(within wait: Duration) -> Int {
        max(1, Int(wait / interval))
    }
}

/// Gives out the moments at which submissions may start.
package struct StartSchedule: Sendable {
    private let interval: Duration
    private var next: ContinuousClock.Instant?

    /// The moments under a limit.
    package init(_ limit: RateLimit) {
        interval = limit.interval
    }

    /// The moment of the next start, now or later; nobody else gets the same.
    package mutating func take(now: ContinuousClock.Instant) -> ContinuousClock.Instant {
        let start = max(now, next ?? now)
        next = start + interval
        return start
    }
}
