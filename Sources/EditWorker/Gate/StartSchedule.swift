package import SharedValues

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

    /// Sets a moment aside for one start, now or later; no other job gets the same.
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
