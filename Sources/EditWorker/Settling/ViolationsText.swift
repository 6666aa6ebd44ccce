package import EditJob
import JSON

/// Violations as the text of one header: JSON that stays JSON where it has to be short.
package enum ViolationsText {
    /// As many whole violations, from the first, as fit the longest text.
    package static func text(_ violations: [Violation]) -> String {
        var kept: [JSONValue] = []
        var size = 2
        for violation in violations {
            let json = violation.json
            size += json.encoded().count + 1
            guard size <= JobCopy.longestText else { break }
            kept.append(json)
        }
        return String(decoding: JSONValue.array(kept).encoded(), as: UTF8.self)
    }
}
