import Foundation
package import Testing

/// How much the long tests do, as the variable `SEEDREAM_TEST_SIZE` says.
package enum TestSize: String, Sendable {
    /// Some seconds each.
    case quick
    /// What fits beside all others.
    case usual
    /// All that they are made for: hours.
    case full

    package static let current =
        ProcessInfo.processInfo.environment["SEEDREAM_TEST_SIZE"].flatMap { TestSize(rawValue: $0) } ?? .usual

    /// The one for the size that was asked for.
    package static func choose<Value>(quick: Value, usual: Value, full: Value) -> Value {
        switch current {
        case .quick: quick
        case .usual: usual
        case .full: full
        }
    }
}

extension TimeLimitTrait.Duration {
    /// For tests that compute on the thread which they share: their time begins while they wait for it.
    package static var ofLongTests: Self { .minutes(TestSize.choose(quick: 60, usual: 60, full: 24 * 60)) }
}
