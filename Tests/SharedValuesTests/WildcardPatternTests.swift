import SharedValues
import Testing

struct WildcardPatternTests {
    @Test(arguments: [
        ("*", "", true), ("a*b*c", "aXbYbZc", true), ("a*b*c", "aXbY", false), ("?", "ü", true), ("", "a", false),
        ("**", "abc", true), ("*a", "ba", true), ("a?", "a", false),
    ])
    func `a pattern matches the whole text`(_ pattern: String, _ text: String, _ matches: Bool) {
        #expect(WildcardPattern(pattern).matches(text) == matches)
    }

    @Test func `many stars take no more than a moment`() {
        let pattern = WildcardPattern(String(repeating: "a*", count: 200) + "b")
        #expect(!pattern.matches(String(repeating: "a", count: 2000)))
    }
}
