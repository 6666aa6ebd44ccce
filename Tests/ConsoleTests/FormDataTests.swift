import Testing

@testable import Console

struct FormDataTests {
    @Test func `fields are decoded, in their order, and a name may come twice`() {
        let form = FormData("b=2&a=1+%26%3D&b=%C3%BC&empty&=x&bad=%zz")
        #expect(form.names == ["b", "a", "b", "empty", "", "bad"])
        #expect(form["b"] == "2")
        #expect(form.all("b") == ["2", "ü"])
        #expect(form["a"] == "1 &=")
        #expect(form["empty"] == "")
        #expect(form["bad"] == "%zz")
        #expect(form["none"] == nil)
    }

    @Test func `a word has no white space around it`() {
        let form = FormData("a=+x+y%09&b=++")
        #expect(form.word("a") == "x y")
        #expect(form.word("b") == nil)
    }

    @Test(arguments: ["plain", "a b&c=d?e#f", "ü\u{1F600}", "\"<>'%+"])
    func `an address brings back what was put into it`(_ text: String) throws {
        let address = FormData.address("/act", [("queue", "dlq"), (text, text)])
        #expect(address.utf8.allSatisfy { (0x21...0x7E).contains($0) })
        let query = try #require(address.split(separator: "?").last)
        #expect(FormData(query)[text] == text)
        #expect(FormData.address("/", []) == "/")
    }
}
