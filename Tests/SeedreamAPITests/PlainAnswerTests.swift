import NIOCore
import NIOEmbedded
import NIOHTTP1
import TestSupport
import Testing

@testable import SeedreamAPI

/// Answers that are read without NIO's decoder: none that the decoder would understand in another way.
@Suite(.ownThread, .timeLimit(.ofLongTests))
struct PlainAnswerTests {
    private static let body = #"{"task_id":"t"}"#

    private static func answer(_ fields: String, status: String = "200 OK", body: String = body) -> [UInt8] {
        Array("HTTP/1.1 \(status)\r\n\(fields)\r\n\(body)".utf8)
    }

    /// What NIO's decoder makes of an answer: the head and the body; nil if that is not all or more than that.
    private static func decoded(_ bytes: [UInt8]) throws -> (head: HTTPResponseHead, body: [UInt8])? {
        let channel = EmbeddedChannel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        let decoder = ByteToMessageHandler(HTTPResponseDecoder(leftOverBytesStrategy: .forwardBytes))
        try channel.pipeline.syncOperations.addHandler(decoder)
        try channel.writeOutbound(HTTPClientRequestPart.head(.init(version: .http1_1, method: .POST, uri: "/")))
        do {
            try channel.writeInbound(ByteBuffer(bytes: bytes))
        } catch {
            return nil
        }
        guard case .head(let head) = try channel.readInbound(as: HTTPClientResponsePart.self) else { return nil }
        var body: [UInt8] = []
        while let part = try channel.readInbound(as: HTTPClientResponsePart.self) {
            switch part {
            case .head: return nil
            case .body(let more): body += more.readableBytesView
            case .end: return try channel.readInbound(as: HTTPClientResponsePart.self) == nil ? (head, body) : nil
            }
        }
        return nil
    }

    private static func text(_ range: Range<Int>?, _ bytes: [UInt8]) -> String? {
        range.map { String(decoding: bytes[$0], as: UTF8.self) }
    }

    /// Whether an answer is plain; if it is, it must be the same to NIO.
    private static func isPlain(_ bytes: [UInt8]) throws -> Bool {
        guard let plain = PlainAnswer(bytes.span) else { return false }
        let decoded = try #require(try decoded(bytes), "\(String(decoding: bytes, as: UTF8.self))")
        #expect(Int(decoded.head.status.code) == plain.status)
        #expect(decoded.head.isKeepAlive)
        #expect(decoded.head.headers.first(name: "retry-after") == text(plain.retryAfter, bytes))
        #expect(decoded.head.headers.first(name: "date") == text(plain.date, bytes))
        #expect(decoded.body == Array(bytes[plain.body]))
        return true
    }

    @Test(arguments: [
        "Content-Length: 15\r\n", "content-length:15\r\n", "CONTENT-LENGTH: 00015\r\nConnection: Keep-Alive\r\n",
        "Server: x\r\nDate: Thu, 26 Nov 2026 22:00:00 GMT\r\nRetry-After: 7\r\nContent-Length: 15\r\nX-A: b: c\r\n",
        "Retry-After: 7\r\nRetry-After: 8\r\nContent-Length: 15\r\nKeep-Dead: timeout=5\r\n",
    ])
    func `what is plain is read`(_ fields: String) throws {
        #expect(try Self.isPlain(Self.answer(fields)))
    }

    @Test(arguments: [
        answer(""), answer("Content-Length: 14\r\n"), answer("Content-Length: 16\r\n"),
        answer("Content-Length: 15\r\nContent-Length: 15\r\n"), answer("Content-Length: 15, 15\r\n"),
        answer("Content-Length: +15\r\n"), answer("Content-Length: 0x0F\r\n"), answer("Content-Length: \r\n"),
        answer("Content-Length: 99999999999999999999\r\n"), answer("Content-Length : 15\r\n"),
        answer("Content-Length: 15\r\nTransfer-Encoding: chunked\r\n"),
        answer("Content-Length: 15\r\nConnection: close\r\n"),
        answer("Content-Length: 15\r\nProxy-Connection: close\r\n"),
        answer("Content-Length: 15\r\nUpgrade: h2c\r\n"), answer("Content-Length: 15\r\nTrailer: x\r\n"),
        answer("Content-Length: 15\r\nX: a\r\n b\r\n"), answer("Content-Length: 15\nX: a\r\n"),
        answer("Content-Length: 15\r\nX: \u{e9}\r\n"), answer("Content-Length: 15\r\nX: a \r\n"),
        answer("Content-Length: 15\r\nX:\ta\r\n"), answer("Content-Length: 15\r\n: a\r\n"),
        answer("Content-Length: 15\r\nKeep-Alive: timeout=5\r\n"),
        answer("Content-Length: 15\r\nContent-Encoding: gzip\r\n"),
        answer("Content-Length: 15\r\nX\r\n"), answer("Content-Length: 15\r\n", body: body + "\r\n"),
        answer("Content-Length: 15\r\n", status: "100 Continue"),
        answer("Content-Length: 15\r\n", status: "101 Switching Protocols"),
        answer("Content-Length: 15\r\n", status: "204 No Content"),
        answer("Content-Length: 15\r\n", status: "304 Not Modified"),
        answer("Content-Length: 15\r\n", status: "600 X"), answer("Content-Length: 15\r\n", status: "20 X"),
        answer("Content-Length: 15\r\n", status: "200"), answer("Content-Length: 15\r\n", status: "2000 X"),
        Array("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".utf8),
        Array("http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8), Array("HTTP/1.1 200 OK\r\n".utf8), [],
    ])
    func `what is not plain is left to the decoder`(_ bytes: [UInt8]) throws {
        #expect(try !Self.isPlain(bytes))
    }

    @Test func `thousands of damaged answers mean the same to both`() throws {
        var random = SeededGenerator(seed: 20)
        let fields = [
            "Content-Length: 15", "Content-Length: 15", "Date: Thu, 26 Nov 2026 22:00:00 GMT", "Retry-After: 7",
            "Connection: keep-alive", "Connection: close", "Transfer-Encoding: chunked", "X-Request-Id: 1-2", "X: a, b",
            "Content-Type: application/json", "Set-Cookie: a=b; c=d",
        ]
        let bytes: [UInt8] = [0, 9, 10, 13, 32, 43, 44, 45, 48, 49, 53, 58, 59, 65, 95, 97, 127, 128, 255]
        var plain = 0
        let answers = TestSize.choose(quick: 500, usual: 2000, full: 50_000)
        for _ in 0..<answers {
            let chosen = (0..<Int.random(in: 1...5, using: &random)).map { _ in fields.randomElement(using: &random)! }
            var answer = Self.answer(
                (["Content-Length: 15"] + chosen).shuffled(using: &random).map { $0 + "\r\n" }.joined()
            )
            for _ in 0..<Int.random(in: 0...2, using: &random) {
                let index = answer.indices.randomElement(using: &random)!
                switch Int.random(in: 0..<3, using: &random) {
                case 0: answer[index] = bytes.randomElement(using: &random)!
                case 1: answer.insert(bytes.randomElement(using: &random)!, at: index)
                default: answer.remove(at: index)
                }
            }
            if try Self.isPlain(answer) { plain += 1 }
        }
        #expect(plain > answers / 20)
    }
}
