package import SharedValues

/// Reads how long an answer asks to wait.
///
/// Source: RFC 9110 §10.2.3 and, for dates, §5.6.7.
package enum RetryAfter {
    /// A wait beyond a day is nonsense for this API, and would only hide that it is.
    private static let longest: Int64 = 86_400

    /// The wait, nil if the field is absent, nonsense, negative or past.
    ///
    /// A date is taken against the answer's own `Date`, because the two clocks may differ; without one against `now`.
    package static func wait(_ field: String?, date: String?, now: Timestamp = .now) -> Duration? {
        guard let field = field?.trimmingSpaces, !field.isEmpty else { return nil }
        if field.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) {
            guard let seconds = Int64(field) else { return .seconds(longest) }
            return .seconds(min(seconds, longest))
        }
        guard let until = HTTPDate.parse(field, now: now) else { return nil }
        let from = date.flatMap { HTTPDate.parse($0.trimmingSpaces, now: now) } ?? now
        let milliseconds = until.milliseconds - from.milliseconds
        guard milliseconds > 0 else { return nil }
        return .milliseconds(min(milliseconds, longest * 1000))
    }
}

extension String {
    /// Without the optional white space around a field's value (RFC 9110 §5.6.3).
    fileprivate var trimmingSpaces: String {
        var text = self[...]
        while let first = text.first, first == " " || first == "\t" { text = text.dropFirst() }
        while let last = text.last, last == " " || last == "\t" { text = text.dropLast() }
        return String(text)
    }
}
