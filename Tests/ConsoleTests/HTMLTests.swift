import Testing

@testable import Console

struct HTMLTests {
    @Test(arguments: [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\" onload=\"x", "&quot; onload=&quot;x"), ("' & '", "&#39; &amp; &#39;"), ("&amp;", "&amp;amp;"),
        ("a\nb\tc", "a\nb\tc"), ("\u{202E}exe", "\\u{202e}exe"), ("\u{0}\r", "\\u{0}\\u{d}"),
        ("\u{1F468}\u{200D}\u{1F469}", "\u{1F468}\u{200D}\u{1F469}"), ("日本", "日本"),
    ])
    func `words are nothing but text`(_ words: String, _ text: String) {
        let page: HTML = "<p>\(words)</p>"
        #expect(page.text == "<p>\(text)</p>")
    }

    @Test func `markup goes into markup as it is, and numbers too`() {
        let bold: HTML = "<b>\("<")</b>"
        let page: HTML = "\(bold) \([bold, bold]) \(7)"
        #expect(page.text == "<b>&lt;</b> <b>&lt;</b><b>&lt;</b> 7")
        #expect(HTML([bold, .empty]).text == bold.text)
    }

    @Test(arguments: [("abc", 3, "abc"), ("abcd", 3, "abc…"), ("", 0, ""), ("a", 0, "…")])
    func `a long text is cut, and shows it`(_ text: String, _ count: Int, _ cut: String) {
        #expect(text.cut(to: count) == cut)
    }
}
