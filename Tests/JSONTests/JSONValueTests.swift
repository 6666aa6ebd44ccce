import JSON
import Testing

struct JSONValueTests {
    @Test(
        arguments: [
            ("null", .null), ("true", .boolean(true)), ("-0", .integer(0)), ("9223372036854775807", .integer(.max)),
            ("-9223372036854775808", .integer(.min)), ("1.5", .real(1.5)), ("1e2", .real(100)), (#""""#, .string("")),
            (#""a\u0000b""#, .string("a\0b")), (#""\ud83d\ude00""#, .string("😀")), ("[]", .array([])),
            (#" {"b":1,"a":[{}]} "#, .object([JSONMember("b", .integer(1)), JSONMember("a", .array([.object([])]))])),
        ] as [(String, JSONValue)]
    )
    func `a value is read`(_ text: String, _ value: JSONValue) throws {
        #expect(try JSONValue(parsing: text.utf8) == value)
    }

    @Test(arguments: [
        ("", "ends before"), ("{", "ends before"), (#"{"a":1,"a":2}"#, "occurs twice"),
        (#"{"a":1,"\u0061":2}"#, "occurs twice"), ("1 2", "more than one"), ("{} {}", "more than one"),
        ("9223372036854775808", "out of range"), ("1e400", "out of range"), (#""\ud800""#, "invalid"),
        (#""\udc00\ud800""#, "invalid"), ("'a'", "invalid syntax"), ("[1,]", "invalid syntax"), ("01", "invalid"),
        ("NaN", "invalid syntax"), ("\u{FEFF}{}", "byte order mark"), (#"{"a\u0000b":1}"#, "NUL"),
        ("\"a\nb\"", "invalid"), ("// x\n1", "invalid syntax"),
    ])
    func `what is no JSON is told with a fixed reason`(_ text: String, _ reason: String) throws {
        let error = try #require(throws: JSONParseError.self) { try JSONValue(parsing: text.utf8) }
        #expect(error.reason.contains(reason), "\(error)")
    }

    @Test func `invalid UTF-8 is told`() throws {
        for bytes: [UInt8] in [[0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22]] {
            let error = try #require(throws: JSONParseError.self) { try JSONValue(parsing: bytes) }
            #expect(error.reason == "invalid UTF-8")
        }
    }

    @Test func `nesting has a limit`() throws {
        let deep = String(repeating: "[", count: 3000) + String(repeating: "]", count: 3000)
        let error = try #require(throws: JSONParseError.self) { try JSONValue(parsing: deep.utf8) }
        #expect(error.reason.contains("levels"))
    }

    @Test func `an error has its place, and nothing of the text`() throws {
        let text = "{\n  \"secret\": hunter2\n}"
        let error = try #require(throws: JSONParseError.self) { try JSONValue(parsing: text.utf8) }
        #expect(error.line == 2)
        #expect(error.column > 10)
        #expect(!"\(error)".contains("secret") && !"\(error)".contains("hunter2"))
    }

    @Test func `every character is written so that it is read again, with an escape only where it needs one`() throws {
        for code in (0...0x2FF as ClosedRange<UInt32>).map({ $0 }) + [0x2028, 0xD7FF, 0xFFFD, 0x1F3A8, 0x10FFFF] {
            let scalar = try #require(UnicodeScalar(code))
            let value = JSONValue.string("a\(Character(scalar))b\(Character(scalar))")
            let text = String(decoding: value.encoded(), as: UTF8.self)
            #expect(try JSONValue(parsing: text.utf8) == value)
            #expect(
                text.contains("\\") == (code < 0x20 || scalar == "\"" || scalar == "\\"),
                "U+\(String(code, radix: 16))"
            )
        }
        #expect(
            String(decoding: JSONValue.string("\u{0}\u{8}\t\n\u{C}\r\u{1F}").encoded(), as: UTF8.self)
                == #""\u0000\b\t\n\f\r\u001F""#
        )
    }

    @Test func `a character is escaped wherever it stands`() throws {
        for code in 0..<0x80 as Range<UInt8> {
            for place in 0..<18 {
                var text = [UInt8](repeating: UInt8(ascii: "a"), count: 18)
                text[place] = code
                let value = JSONValue.string(String(decoding: text, as: UTF8.self))
                let written = value.encoded()
                #expect(try JSONValue(parsing: written) == value, "\(code) at \(place)")
                #expect(written.allSatisfy { $0 >= 0x20 })
            }
        }
    }

    @Test func `texts of all sizes are read at the same time, good and bad`() async throws {
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            for task in 0..<8 {
                tasks.addTask {
                    for size in [0, 10, 1000, 40_000, 300_000, 3] {
                        let value = JSONValue.array(
                            [.string(String(repeating: "ü\(task)", count: size))]
                                + (0..<size / 10).map { .object([JSONMember("n\($0)", .integer(Int64($0)))]) }
                        )
                        let text = value.encoded()
                        let read = try JSONValue(parsing: text)
                        #expect(read == value)
                        #expect((try? JSONValue(parsing: text.dropLast())) == nil)
                    }
                }
            }
            try await tasks.waitForAll()
        }
    }

    @Test(arguments: [0, -0.5, 2, 1e20, 1e21, .leastNonzeroMagnitude, .greatestFiniteMagnitude, 0.1, 123_456_789.125])
    func `a number with a fraction is the same number again`(_ number: Double) throws {
        let again = try JSONValue(parsing: JSONValue.real(number).encoded())
        #expect(again == .real(number))
    }

    @Test func `a value is written as it was read`() throws {
        let text = #"{"a":[1,-2,"ü\u0000\"\\"],"b":{"c":null,"d":true},"":9223372036854775807}"#
        let value = try JSONValue(parsing: text.utf8)
        #expect(String(decoding: value.encoded(), as: UTF8.self) == text)
        #expect(JSONValue.real(.nan).encoded() == Array("null".utf8))
        #expect(JSONValue.string("").encoded() == Array("\"\"".utf8))
    }

    @Test(
        arguments: [
            (.integer(7), 7), (.real(2), 2), (.real(-0.0), 0), (.real(2.5), nil),
            (.real(9_007_199_254_740_992), 9_007_199_254_740_992),
            (.real(9_007_199_254_740_994), nil), (.boolean(true), nil), (.string("1"), nil), (.real(1e300), nil),
        ] as [(JSONValue, Int64?)]
    )
    func `a real is an integer where it is surely one`(_ value: JSONValue, _ number: Int64?) {
        #expect(value.exactInteger == number)
    }

    @Test func `a pointer escapes what RFC 6901 says`() {
        #expect(JSONPointer.root.member("a/b~c").element(3).description == "/a~1b~0c/3")
        #expect(JSONPointer.root.description == "")
    }
}
