import EditJob
import JSON
import TestSupport
import Testing

/// Bodies and what the worker says of them: `POINTER CODE`, several separated by commas, or nothing.
struct EditJobValidationTests {
    private static let url = #""https://example.com/a.png""#

    /// A job with the given image URLs' text and a prompt, and perhaps more members.
    private static func job(_ more: String = "", urls: String = url, prompt: String = #""x""#) -> String {
        #"{"image_urls":[\#(urls)],"prompt":\#(prompt)\#(more.isEmpty ? "" : "," + more)}"#
    }

    private static func verdict(_ text: String, _ policy: UnknownFieldPolicy = .reject) -> String {
        do throws(EditJob.Invalid) {
            _ = try EditJob(parsing: text.utf8, unknownFields: policy)
            return ""
        } catch {
            switch error {
            case .malformed: return "malformed_json"
            case .violations(let violations):
                return violations.map { "\($0.pointer) \($0.code.rawValue)" }.joined(separator: ",")
            }
        }
    }

    static let structure: [(String, String)] = [
        (job(), ""),
        ("[]", " type"), ("null", " type"), ("3", " type"), (#""x""#, " type"), ("true", " type"),
        ("{}", "/image_urls required,/prompt required"),
        (#"{"prompt":"x"}"#, "/image_urls required"),
        (#"{"image_urls":null,"prompt":null}"#, "/image_urls type,/prompt type"),
        (#"{"image_urls":"https://a","prompt":"x"}"#, "/image_urls type"),
        (#"{"image_urls":{},"prompt":"x"}"#, "/image_urls type"),
        (job(urls: ""), "/image_urls min_items"),
        (job(urls: Array(repeating: url, count: 10).joined(separator: ",")), ""),
        (job(urls: Array(repeating: url, count: 11).joined(separator: ",")), "/image_urls max_items"),
        (job(urls: "1,null,\(url)"), "/image_urls/0 type,/image_urls/1 type"),
        (job(#""x":1"#), "/x unknown_field"),
        (job(#""a/b":1,"c~d":2"#), "/a~1b unknown_field,/c~0d unknown_field"),
        (job(#""Prompt":"y""#), "/Prompt unknown_field"),
        (
            #"{"image_urls":[],"prompt":"","max_images":9,"seed":"1","image_size":"big","y":0}"#,
            "/image_urls min_items,/prompt blank,/image_size enum,/max_images maximum,/seed type,/y unknown_field"
        ),
        ("", "malformed_json"), ("{", "malformed_json"), (job() + " x", "malformed_json"),
        (job() + job(), "malformed_json"), ("\u{FEFF}" + job(), "malformed_json"),
        (job(#""seed":1,"seed":1"#), "malformed_json"), (job(#""seed":1,"\u0073eed":1"#), "malformed_json"),
        (job(prompt: #""\ud800""#), "malformed_json"), (job(#""seed":9223372036854775808"#), "malformed_json"),
        (job(#""seed":-9223372036854775809"#), "malformed_json"), (job(#""seed":1e400"#), "malformed_json"),
        (String(repeating: "[", count: 5000), "malformed_json"), (job(#""seed":NaN"#), "malformed_json"),
    ]

    static let prompts: [(String, String)] = [
        (#""a""#, ""), (#""""#, "/prompt blank"), (#""  \t\n\u00a0\u2003\u3000\u2028""#, "/prompt blank"),
        (#""\u200b""#, ""), ("7", "/prompt type"), ("[]", "/prompt type"), ("false", "/prompt type"),
        (#""a\u0000b""#, "/prompt nul_character"), (#""\u0000""#, "/prompt nul_character"),
        ("\"\(String(repeating: "a", count: 5000))\"", ""),
        ("\"\(String(repeating: "a", count: 5001))\"", "/prompt max_length"),
        // Code points, not bytes, units or what a person sees as one character.
        ("\"\(String(repeating: "😀", count: 5000))\"", ""),
        ("\"\(String(repeating: "😀", count: 5001))\"", "/prompt max_length"),
        ("\"\(String(repeating: "\u{1D11E}", count: 5000))\"", ""),
        ("\"\(String(repeating: "e\u{301}", count: 2500))\"", ""),
        ("\"\(String(repeating: "e\u{301}", count: 2500))a\"", "/prompt max_length"),
        ("\"\(String(repeating: "👩‍👩‍👧‍👦", count: 714))\"", ""),
        ("\"\(String(repeating: "👩‍👩‍👧‍👦", count: 715))\"", "/prompt max_length"),
        ("\"\(String(repeating: #"\ud83d\ude00"#, count: 5000))\"", ""),
        ("\"\(String(repeating: "漢", count: 5000))\"", ""),
        ("\"\(String(repeating: "\r\n", count: 0))مرحبا\"", ""),
    ]

    static let choices: [(String, String)] = [
        (#""image_resolution":"1K""#, ""), (#""image_resolution":"2K""#, ""), (#""image_resolution":"4K""#, ""),
        (#""image_resolution":"1k""#, "/image_resolution enum"),
        (#""image_resolution":"3K""#, "/image_resolution enum"),
        (#""image_resolution":1"#, "/image_resolution type"), (#""image_resolution":null"#, "/image_resolution type"),
        (#""image_resolution":"1K\u0000""#, "/image_resolution enum"),
        (#""image_resolution":"""#, "/image_resolution enum"),
        (#""image_size":"square""#, ""), (#""image_size":"square_hd""#, ""), (#""image_size":"portrait_4_3""#, ""),
        (#""image_size":"portrait_3_2""#, ""), (#""image_size":"portrait_16_9""#, ""),
        (#""image_size":"landscape_4_3""#, ""), (#""image_size":"landscape_3_2""#, ""),
        (#""image_size":"landscape_16_9""#, ""), (#""image_size":"landscape_21_9""#, ""),
        (#""image_size":"portrait_21_9""#, "/image_size enum"), (#""image_size":"Square""#, "/image_size enum"),
        (#""image_size":["square"]"#, "/image_size type"),
    ]

    static let numbers: [(String, String)] = [
        (#""max_images":1"#, ""), (#""max_images":6"#, ""), (#""max_images":2.0"#, ""), (#""max_images":2e0"#, ""),
        (#""max_images":0"#, "/max_images minimum"), (#""max_images":-1"#, "/max_images minimum"),
        (#""max_images":7"#, "/max_images maximum"), (#""max_images":1.5"#, "/max_images type"),
        (#""max_images":true"#, "/max_images type"), (#""max_images":"1""#, "/max_images type"),
        (#""max_images":null"#, "/max_images type"), (#""max_images":1e300"#, "/max_images type"),
        (#""seed":0"#, ""), (#""seed":-1"#, ""), (#""seed":9223372036854775807"#, ""),
        (#""seed":-9223372036854775808"#, ""), (#""seed":9007199254740992.0"#, ""),
        (#""seed":9007199254740994.0"#, "/seed type"), (#""seed":1e18"#, "/seed type"), (#""seed":0.1"#, "/seed type"),
        (#""seed":false"#, "/seed type"), (#""seed":{}"#, "/seed type"),
    ]

    static let urls: [(String, Bool)] = [
        ("https://example.com", true), ("http://example.com/", true), ("HTTPS://EXAMPLE.COM/A.PNG", true),
        ("https://example.com:443/a?b=c&d=%20#e", true), ("https://127.0.0.1:8080/x", true),
        ("https://[2001:db8::1]/x", true), ("https://[::ffff:1.2.3.4]:80/", true), ("https://[::]", true),
        ("https://example.com/a@b", true), ("https://example.com?a@b", true), ("https://example.com/%E6%BC%A2", true),
        ("https://xn--hxajbheg2az3al.example/", true), ("https://a_b.example/", true),
        ("https://example.com/a|b{c}", true), ("https://example.com:1", true), ("https://example.com:65535/", true),
        ("https://" + String(repeating: "a", count: 8184), true),
        ("https://" + String(repeating: "a", count: 8185), false),
        ("", false), ("example.com/a.png", false), ("//example.com/a.png", false), ("/a.png", false),
        ("ftp://example.com/a", false), ("data:image/png;base64,AAAA", false), ("file:///etc/passwd", false),
        ("https:example.com", false), ("https:/example.com", false), ("https://", false), ("https:///a", false),
        ("https://?a", false), ("https://:80/", false), ("https://example.com:/", false),
        ("https://example.com:0/", false), ("https://example.com:65536/", false), ("https://example.com:8a/", false),
        ("https://example.com:-1/", false), ("https://user@example.com/", false), ("https://u:p@example.com/", false),
        ("https://example.com/a b", false), (" https://example.com/", false), ("https://example.com/\\u0009", false),
        ("https://example.com/\\u0000", false), ("https://example.com/\\u007f", false),
        ("https://example.com/\\n", false),
        ("https://example.com/ü", false), ("https://bücher.example/", false), ("https://example.com\\\\a", false),
        ("https://example.com/%", false), ("https://example.com/%2", false), ("https://example.com/%zz", false),
        ("https://[::1/", false), ("https://[::1]x/", false), ("https://[1:2:3]/", false), ("https://[g::]/", false),
        ("https://[::1.2.3.400]/", false), ("https://[1::2::3]/", false),
    ]

    /// A body and its verdict, shown in a few words however long the body is.
    struct Case: Sendable, CustomTestStringConvertible {
        let body: String
        let wanted: String
        var testDescription: String { "\(body.prefix(60).debugDescription) is \(wanted.isEmpty ? "valid" : wanted)" }
    }

    @Test func `what no URL and no prompt may have is found wherever it stands`() throws {
        let refused = Set((0...0x20).map { UInt8($0) } + [0x25, 0x5C, 0x7F])
        for code in 0..<0x80 as Range<UInt8> {
            for place in 0..<18 {
                var text = [UInt8](repeating: UInt8(ascii: "a"), count: 18)
                text[place] = code
                let characters = String(decoding: text, as: UTF8.self)
                let job = JSONValue.object([
                    JSONMember("image_urls", .array([.string("https://h/\(characters)")])),
                    JSONMember("prompt", .string(characters)),
                ])
                // A percent sign before two digits is an escape: \"%aa\".
                let isEscape = code == UInt8(ascii: "%") && place < 16
                let expected = [
                    refused.contains(code) && !isEscape ? "/image_urls/0 url" : nil,
                    code == 0 ? "/prompt nul_character" : nil,
                ]
                let verdict = Self.verdict(String(decoding: job.encoded(), as: UTF8.self))
                #expect(verdict == expected.compactMap { $0 }.joined(separator: ","), "\(code) at \(place)")
            }
        }
    }

    @Test(arguments: structure.map { Case(body: $0.0, wanted: $0.1) })
    func `a body's structure is checked`(_ one: Case) {
        #expect(Self.verdict(one.body) == one.wanted)
    }

    @Test(arguments: prompts.map { Case(body: $0.0, wanted: $0.1) })
    func `a prompt is checked`(_ one: Case) {
        #expect(Self.verdict(Self.job(prompt: one.body)) == one.wanted)
    }

    @Test(arguments: (choices + numbers).map { Case(body: $0.0, wanted: $0.1) })
    func `a choice or number is checked`(_ one: Case) {
        #expect(Self.verdict(Self.job(one.body)) == one.wanted)
    }

    @Test(arguments: urls.map { Case(body: $0.0, wanted: $0.1 ? "" : "/image_urls/0 url") })
    func `an image URL is checked`(_ one: Case) {
        #expect(Self.verdict(Self.job(urls: "\"\(one.body)\"")) == one.wanted)
    }

    /// What a schema cannot say: it takes a real beyond 2^53 for the integer that it looks like.
    private static let beyondSchemas: Set<String> = [#""seed":9007199254740994.0"#, #""seed":1e18"#]

    @Test func `the JSON Schema says the same of every body that is JSON`() async throws {
        var cases = Self.structure.filter { $0.1 != "malformed_json" }
        cases += Self.prompts.map { (Self.job(prompt: $0.0), $0.1) }
        let values = (Self.choices + Self.numbers).filter { !Self.beyondSchemas.contains($0.0) }
        cases += values.map { (Self.job($0.0), $0.1) }
        cases += Self.urls.map { (Self.job(urls: "\"\($0.0)\""), $0.1 ? "" : "url") }
        let verdicts = try await SchemaCheck.verdicts(of: cases.map(\.0), by: "job.schema.json")
        #expect(verdicts.count == cases.count)
        for (one, isValid) in zip(cases, verdicts) {
            #expect(isValid == one.1.isEmpty, "\(one.0.prefix(120)): \(one.1)")
        }
    }

    @Test func `there are at least a hundred bodies`() {
        #expect(
            Self.structure.count + Self.prompts.count + Self.choices.count + Self.numbers.count + Self.urls.count >= 100
        )
    }

    @Test func `the same URL may stand twice`() {
        #expect(Self.verdict(Self.job(urls: "\(Self.url),\(Self.url)")) == "")
    }

    @Test(arguments: [
        ("imageUrls", "image_urls"), ("image_url", "image_urls"), ("promt", "prompt"),
        ("resolution", "image_resolution"),
        ("imageSize", "image_size"), ("max_image", "max_images"), ("sede", "seed"), ("SEED", "seed"),
    ])
    func `an unknown field gets the nearest known name`(_ name: String, _ nearest: String) throws {
        let invalid = try #require(throws: EditJob.Invalid.self) {
            try EditJob(parsing: Self.job("\"\(name)\":1").utf8)
        }
        guard case .violations(let violations) = invalid else {
            Issue.record("\(invalid)")
            return
        }
        #expect(violations.map(\.message) == ["The API has no such field; did you mean \(nearest)?"])
    }

    @Test func `an unknown field may be forwarded as it is`() throws {
        let job = try EditJob(parsing: Self.job(#""style":{"a":[1,2.5]}"#).utf8, unknownFields: .forward)
        let body = String(decoding: job.requestBody(), as: UTF8.self)
        #expect(body == #"{"image_urls":["https://example.com/a.png"],"prompt":"x","style":{"a":[1,2.5]}}"#)
    }

    @Test func `the request has only what the job has, and integers as integers`() throws {
        let text = Self.job(#""seed":-9223372036854775808,"max_images":3.0,"image_size":"square""#)
        let job = try EditJob(parsing: text.utf8)
        let body = String(decoding: job.requestBody(), as: UTF8.self)
        #expect(
            body
                == #"{"image_urls":["https://example.com/a.png"],"prompt":"x","image_size":"square","max_images":3,"seed":-9223372036854775808}"#
        )
    }

    @Test func `no message quotes the prompt or a URL`() throws {
        let text = #"{"image_urls":["https://secret.example/ signed"],"prompt":"secret\u0000","seed":"secret"}"#
        let invalid = try #require(throws: EditJob.Invalid.self) { try EditJob(parsing: text.utf8) }
        #expect(!JobFailure(invalid).message.contains("secret"))
        guard case .violations(let violations) = invalid else { return }
        #expect(violations.count == 3)
        #expect(violations.allSatisfy { !$0.message.contains("secret") })
    }
}
