/// Spaces the starts of submissions evenly, so that no window of `period` ever has more than `count` of them.
///
/// Evenly, and not in bursts, because a burst that a slow connection delays meets the next one at the API.
package struct RateLimit: Hashable, Sendable {
    /// The longest interval between two starts: a job that waits for its start is held in the worker, and must not be held
    /// for longer.
    package static let longestInterval = Duration.seconds(15)

    package let count: Int
    package let period: Duration

    /// A limit of at least one start per period.
    package init(count: Int, period: Duration) {
        self.count = count
        self.period = period
    }

    /// Reads `18/10s`; nil if the text is nothing of the kind.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 1)
        // Every start within the period is remembered: a million are 16 MiB.
        guard parts.count == 2, let count = Int(parts[0]), (1...1_000_000).contains(count),
            let period = DurationText.parse(String(parts[1])), period > .zero
        else { return nil }
        self.init(count: count, period: period)
    }

    /// As it is written in settings, such as `18/10s`.
    package var text: String { "\(count)/\(DurationText.text(period))" }

    /// The time between two starts, rounded up: a window must never gain one by rounding.
    package var interval: Duration { period / count + .microseconds(1) }

    /// Jobs that can start within a wait that is held in the worker; more would only wait in vain.
    package func mostHeld(within wait: Duration) -> Int {
        max(1, Int(wait / interval))
    }
}
