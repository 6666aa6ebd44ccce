/// How long to wait before the next attempt to connect: exponential with full jitter.
///
/// Full jitter, because a thousand workers that lost the same broker at the same time must not come back in step.
/// Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
package struct ReconnectBackoff: Sendable {
    private static let base = Duration.seconds(1)
    private static let cap = Duration.seconds(30)

    private var failures = 0

    package init() {}

    /// The wait after one more failure; `fraction` is a random number from 0 to 1.
    package mutating func next(fraction: Double = .random(in: 0...1)) -> Duration {
        let ceiling = min(Self.cap, Self.base * (1 << min(failures, 10)))
        failures += 1
        return ceiling * fraction
    }

    /// Forgets the failures, after a connection that worked.
    package mutating func reset() {
        failures = 0
    }
}
