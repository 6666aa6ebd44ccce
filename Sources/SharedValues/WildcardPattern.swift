/// A pattern with `*` for any text and `?` for one character.
package struct WildcardPattern: Hashable, Sendable {
    private let pattern: [Character]

    /// Takes the pattern's text.
    package init(_ text: some StringProtocol) {
        pattern = Array(text)
    }

    package var text: String { String(pattern) }

    /// Whether it is `*`, which every text matches.
    package var matchesAll: Bool { pattern == ["*"] }

    /// Whether the whole text matches; linear but for the stars, of which only the last is ever tried again.
    package func matches(_ text: String) -> Bool {
        let text = Array(text)
        var (at, position) = (0, 0)
        var star: (pattern: Int, text: Int)?
        while position < text.count {
            if at < pattern.count, pattern[at] == "*" {
                star = (at, position)
                at += 1
            } else if at < pattern.count, pattern[at] == "?" || pattern[at] == text[position] {
                at += 1
                position += 1
            } else if let last = star {
                star = (last.pattern, last.text + 1)
                at = last.pattern + 1
                position = last.text + 1
            } else {
                return false
            }
        }
        return pattern[at...].allSatisfy { $0 == "*" }
    }
}
