/// Durations as settings and queue names write them: `250ms`, `30s`, `5m`, `1h`.
package enum DurationText {
    private static let units: [(suffix: String, milliseconds: Int64)] = [
        ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000),
    ]

    /// The duration in its largest whole unit.
    package static func text(_ duration: Duration) -> String {
        let milliseconds = duration.wholeMilliseconds
        let unit = units.last { milliseconds % $0.milliseconds == 0 } ?? units[0]
        return milliseconds == 0 ? "0s" : "\(milliseconds / unit.milliseconds)\(unit.suffix)"
    }

    /// The duration of a text, nil if it is none: a whole number and a unit.
    package static func parse(_ text: String) -> Duration? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let unit = units.first(where: { $0.suffix == text.dropFirst(digits.count) }),
            let count = Int64(digits)
        else { return nil }
        let (milliseconds, overflow) = count.multipliedReportingOverflow(by: unit.milliseconds)
        // A year is longer than anything here can mean, and keeps sums of durations far from overflow.
        guard !overflow, milliseconds <= 365 * 24 * 3_600_000 else { return nil }
        return .milliseconds(milliseconds)
    }
}

extension Duration {
    /// Whole nanoseconds, rounded towards zero; the largest or smallest number where they are more.
    package var wholeNanoseconds: Int64 { whole(perSecond: 1_000_000_000) }

    /// Whole milliseconds, rounded towards zero; the largest or smallest number where they are more.
    package var wholeMilliseconds: Int64 { whole(perSecond: 1000) }

    private func whole(perSecond units: Int64) -> Int64 {
        let (seconds, attoseconds) = components
        let (whole, isTooLarge) = seconds.multipliedReportingOverflow(by: units)
        let (sum, isSumTooLarge) = whole.addingReportingOverflow(attoseconds / (1_000_000_000_000_000_000 / units))
        return isTooLarge || isSumTooLarge ? (seconds < 0 ? .min : .max) : sum
    }
}
