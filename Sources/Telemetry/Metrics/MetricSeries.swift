import CoreMetrics
import NIOConcurrencyHelpers

/// The values of one metric under one set of labels.
///
/// From any thread; a short lock a change.
final class MetricSeries: CounterHandler, FloatingPointCounterHandler, MeterHandler, RecorderHandler, TimerHandler {
    /// What a series holds at one moment.
    struct Values: Sendable {
        /// Counter and gauge: the value.
        ///
        /// Histogram: the sum.
        var value = 0.0
        /// Histogram: observations by bucket, not cumulated; the last is `+Inf`.
        var buckets: [UInt64]
    }

    private let bounds: [Double]
    private let state: NIOLockedValueBox<Values>

    init(_ kind: MetricFamily.Kind) {
        if case .histogram(let bounds) = kind { self.bounds = bounds } else { bounds = [] }
        state = NIOLockedValueBox(Values(buckets: [UInt64](repeating: 0, count: bounds.isEmpty ? 0 : bounds.count + 1)))
    }

    var values: Values { state.withLockedValue { $0 } }

    func increment(by amount: Int64) { increment(by: Double(amount)) }
    func increment(by amount: Double) { state.withLockedValue { $0.value += amount } }
    func decrement(by amount: Double) { state.withLockedValue { $0.value -= amount } }
    func set(_ value: Int64) { set(Double(value)) }
    func set(_ value: Double) { state.withLockedValue { $0.value = value } }
    func record(_ value: Int64) { record(Double(value)) }
    func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1_000_000_000) }

    func record(_ value: Double) {
        guard !bounds.isEmpty else { return set(value) }
        let index = bounds.firstIndex { value <= $0 } ?? bounds.count
        state.withLockedValue { values in
            values.value += value
            values.buckets[index] += 1
        }
    }

    /// What Prometheus takes for a total is never reset.
    func reset() {}
}
