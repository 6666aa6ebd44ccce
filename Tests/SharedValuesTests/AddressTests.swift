import SharedValues
import Testing

/// Hosts, ports and percent-encoding, as URLs have them.
struct AddressTests {
    @Test(
        arguments: [
            ("a", "a", nil), ("a:1", "a", 1), ("a:", "a", nil), ("[::1]:65535", "::1", 65535), ("[::1]", "::1", nil),
        ] as [(String, String, UInt16?)]
    )
    func `a host and a port are read`(_ text: String, _ host: String, _ port: UInt16?) throws {
        let address = try HostAndPort(text[...])
        #expect(address.host == host)
        #expect(address.port == port)
    }

    @Test(
        arguments: [
            ("", .noHost), (":1", .noHost), ("[]", .noHost), ("[::1", .openBracket), ("[::1]1", .textAfterBracket),
            ("a:65536", .port), ("a:+1", .port), ("a:-1", .port), ("a:1x", .port),
        ] as [(String, HostAndPort.Fault)]
    )
    func `what is wrong with another text is said`(_ text: String, _ fault: HostAndPort.Fault) {
        #expect(throws: fault) { try HostAndPort(text[...]) }
    }

    @Test(
        arguments: [
            ("http://a", "http", nil, "a", ""), ("HTTPS://u:p@a:1/b?c#d", "https", "u:p", "a:1", "/b?c#d"),
            ("amqp://u@v@[::1]:2", "amqp", "u@v", "[::1]:2", ""), ("http://a?b/c@d", "http", nil, "a", "?b/c@d"),
            ("http://a#@b", "http", nil, "a", "#@b"), ("x:///y", "x", nil, "", "/y"), ("x://@", "x", "", "", ""),
        ] as [(String, String, Substring?, Substring, Substring)]
    )
    func `a URL is taken apart`(
        _ text: String,
        _ scheme: String,
        _ user: Substring?,
        _ address: Substring,
        _ rest: Substring
    ) throws {
        let parts = try #require(URLParts(text))
        #expect(parts.scheme == scheme)
        #expect(parts.user == user)
        #expect(parts.address == address)
        #expect(parts.rest == rest)
    }

    @Test(arguments: ["", "a", "://a", "http:/a", "http:a://b", "//a", "a/b://c"])
    func `what has no scheme and no authority is no URL`(_ text: String) {
        // A scheme with a slash in it is somebody else's to refuse.
        #expect(URLParts(text) == nil || URLParts(text)?.isWeb == false)
    }

    @Test func `bytes survive their encoding`() {
        let bytes = Array(UInt8.min...UInt8.max)
        let text = PercentEncoding.encode(bytes) { $0 == UInt8(ascii: "%") }
        #expect(text.utf8.allSatisfy { (0x21...0x7E).contains($0) })
        #expect(PercentEncoding.decode(text[...]) == bytes)
    }

    @Test(arguments: ["%", "%1", "%zz", "%+1", "a%2"])
    func `a percent sign without two digits is no encoding`(_ text: String) {
        #expect(PercentEncoding.decode(text[...]) == nil)
    }
}
