import JSON
import SharedValues
import Testing

@testable import Console

struct JobFormTests {
    private static let prompt = "one\r\ntwo\nthree\u{200F}\u{AD}\tfour & <five>"

    /// What a browser sends of a page's fields.
    private static func sent(_ fields: [(String, String)]) -> FormData {
        let pairs = fields.map { name, text in
            let breaks = LineBreaks.withFeeds(text).replacing("\n", with: "\r\n")
            return PercentEncoding.encode("field.\(name)".utf8) + "="
                + PercentEncoding.encode(breaks.utf8) {
                    [UInt8(ascii: "&"), UInt8(ascii: "="), UInt8(ascii: "+"), UInt8(ascii: "%")].contains($0)
                }
        }
        return FormData(pairs.joined(separator: "&"))
    }

    private static func job(_ prompt: String, _ more: [JSONMember] = []) -> [UInt8] {
        JSONValue.object(
            [
                JSONMember("image_urls", .array([.string("https://a/1"), .string("https://a/2")])),
                JSONMember("prompt", .string(prompt)),
            ] + more
        )
        .encoded()
    }

    /// The job that comes of a form in which some fields were changed.
    private static func corrected(_ body: [UInt8], _ changes: [String: String]) throws -> JSONValue {
        let form = JobForm(body)
        let fields = form.fields.map { ($0.name, changes[$0.name] ?? $0.text) }
        return try JSONValue(parsing: JobForm(sent(fields), of: body).body)
    }

    @Test func `what a form does not change stays what it was, character for character`() throws {
        let body = Self.job(Self.prompt, [JSONMember("seed", .real(2)), JSONMember("max_images", .integer(9))])
        let corrected = try Self.corrected(body, ["max_images": "2"])
        #expect(corrected["prompt"]?.text?.unicodeScalars.elementsEqual(Self.prompt.unicodeScalars) == true)
        #expect(corrected["seed"] == .real(2) && corrected["max_images"] == .integer(2))
        #expect(corrected["image_urls"] == (try JSONValue(parsing: body))["image_urls"])
    }

    @Test func `a value of the wrong type becomes what the field shows`() throws {
        let body = Array(#"{"image_urls":"https://a/1","prompt":"x","max_images":"2"}"#.utf8)
        let corrected = try Self.corrected(body, [:])
        #expect(corrected["image_urls"] == .array([.string("https://a/1")]) && corrected["max_images"] == .integer(2))
    }

    @Test(arguments: [
        ("a\r\nb\nc\rd", "a\nX\nc\nd", "a\r\nX\nc\rd"), ("a\r\nb", "a\nb\nc", "a\r\nb\nc"),
        ("a\r\nb\r\nc", "a\nc", "a\r\nc"),
        ("a\r\n", "a", "a"), ("", "a\nb", "a\nb"), ("a\r\nb", "a\nb", "a\r\nb"),
        ("x\r\ny\r\nz", "0\nx\ny\nz", "0\nx\r\ny\r\nz"),
    ])
    func `line breaks that were not changed are kept`(_ before: String, _ sent: String, _ after: String) {
        let kept = LineBreaks.keeping(those: before, in: sent)
        #expect(Array(kept.utf8) == Array(after.utf8), "\(Array(kept.utf8))")
    }

    @Test func `what is put into a field is not made visible`() {
        let html: HTML = "<textarea>\(exact: Self.prompt)</textarea>"
        #expect(
            html.text.unicodeScalars.elementsEqual(
                "<textarea>one&#13;\ntwo\nthree\u{200F}\u{AD}\tfour &amp; &lt;five&gt;</textarea>".unicodeScalars
            )
        )
        let shown: HTML = "\(Self.prompt)"
        #expect(shown.text.contains("\\u{200f}\\u{ad}"))
    }

    @Test(arguments: [
        ("/job?id=a%20b", "/job?id=a%20b"), ("//evil.example/", "/"), ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("", "/"), ("/a b", "/"), ("/\n", "/"),
    ])
    func `a login goes on to a page of this console only`(_ text: String, _ target: String) {
        #expect(ConsoleServer.localTarget(text) == target)
        #expect(ConsoleServer.localTarget(nil) == "/")
    }
}
