import Foundation
import SharedValues
import TestSupport
import Testing

struct SecretFileTests {
    private static func text(of bytes: [UInt8]) throws -> String? {
        let path = TemporaryFile.path("secret")
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return SecretFile.text(at: path)
    }

    @Test func `a file is read, unless it cannot be a secret`() throws {
        #expect(try Self.text(of: Array("word\n".utf8)) == "word\n")
        #expect(try Self.text(of: []) == "")
        #expect(try Self.text(of: [0xFF, 0xFE]) == nil)
        #expect(try Self.text(of: Array(repeating: 0x61, count: 80_000)) == nil)
        #expect(SecretFile.text(at: "/nowhere/secret") == nil)
        #expect(SecretFile.text(at: "/tmp") == nil)
    }

    @Test(
        arguments: [
            ("word", "word"), (" word\n", "word"), ("two words", nil), ("", nil), ("\n", nil), ("wörd", nil),
            ("a\u{7}b", nil),
        ] as [(String, String?)]
    )
    func `a token is one word that a header can have`(_ text: String, _ token: String?) {
        #expect(SecretFile.token(in: text) == token)
    }
}
