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
        // Every start within the period is remembered: a million are 16 MiB.
        guard parts.count == 2, let count = Int(parts[0]), (1...1_000_000).contains(count),
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
    private let limit: RateLimit
    private var next: ContinuousClock.Instant?
    /// The last starts, as they really were; `oldest` is where the next goes.
    private var starts: [ContinuousClock.Instant] = []
    private var oldest = 0

    /// The moments under a limit.
    package init(_ limit: RateLimit) {
        self.limit = limit
    }

    /// Sets a moment aside for one start, now or later; nobody else gets the same.
    package mutating func reserve(now: ContinuousClock.Instant) -> ContinuousClock.Instant {
        let moment = max(now, next ?? now)
        next = moment + limit.interval
        return moment
    }

    /// Gives back all moments that were set aside and not used.
    package mutating func forgetReservations() {
        next = nil
    }

    /// Starts, at a moment that was set aside; or tells until when to wait, and to ask again.
    ///
    /// A machine that was held up wakes several at once. Not the plan but the real starts are what the API counts.
    package mutating func start(now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        guard starts.count == limit.count else {
            starts.append(now)
            return nil
        }
        let earliest = starts[oldest] + limit.period
        guard now >= earliest else { return earliest }
        starts[oldest] = now
        oldest = (oldest + 1) % limit.count
        return nil
    }
}
