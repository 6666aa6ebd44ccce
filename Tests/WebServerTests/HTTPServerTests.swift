import Foundation
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import TestSupport
import Testing
import WebServer

/// The server, as a client sees it that sends bytes of its own making.
@Suite(.timeLimit(.minutes(10)))
struct HTTPServerTests {
    /// Runs a server around a body, and ends it in good order.
    private static func with(
        longestBody: Int = 100,
        patience: TimeAmount = .seconds(20),
        connections: Int = 128,
        wait: TimeAmount = .seconds(75),
        _ responder: @escaping HTTPServer.Responder,
        _ body: @escaping @Sendable (_ port: Int, _ end: @Sendable () -> Void) async throws -> Void
    ) async throws {
        var bounds = HTTPServer.Bounds(longestBody: longestBody)
        (bounds.patience, bounds.connections, bounds.wait) = (patience, connections, wait)
        let server = HTTPServer(host: "127.0.0.1", port: 0, bounds: bounds, responder: responder)
        let ports = AsyncStream<Int>.makeStream()
        let running = Task { try await server.run { ports.continuation.yield($0) } }
        defer { running.cancel() }
        for await port in ports.stream {
            try await body(port) { running.cancel() }
            break
        }
        running.cancel()
        try await running.value
    }

    /// Says what was asked; ends with a semicolon.
    private static func echo(_ request: HTTPRequest) -> HTTPResponse {
        let body = request.body.map { String(buffer: $0) } ?? "too long"
        return HTTPResponse(
            type: "text/plain",
            "\(request.method) \(request.path) \(request.query ?? "-") \(body);".utf8
        )
    }

    private static func post(_ path: String, _ body: String) -> String {
        "POST \(path) HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    @Test func `requests that come together are answered in their order`() async throws {
        try await Self.with {
            Self.echo($0)
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send(Self.post("/a?b=c?d", "1") + Self.post("/%2Fb", "2") + Self.post("/c?", ""))
            let text = try await client.responses(3, endingWith: ";")
            let order = ["POST /a b=c?d 1;", "POST /%2Fb - 2;", "POST /c  ;"]
            let bodies = text.components(separatedBy: "HTTP/1.1 200 OK")
                .compactMap {
                    $0.components(separatedBy: "\r\n\r\n").last
                }
            #expect(bodies.dropFirst() == order[...])
            #expect(!client.isClosed)
            try await client.close()
        }
    }

    @Test func `the form for proxies names the same path`() async throws {
        try await Self.with {
            Self.echo($0)
        } _: { port, _ in
            for (target, seen) in [
                ("http://a:1/x?y", "/x y"), ("HTTP://a", "/ -"), ("https://a?b", "/ b"), ("*", "* -"),
            ] {
                let client = try await RawClient(port: port)
                try await client.send("OPTIONS \(target) HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(try await client.responses(1, endingWith: ";").hasSuffix("OPTIONS \(seen) ;"))
                try await client.close()
            }
        }
    }

    @Test func `of a body that is too long nothing is kept, and the connection goes on`() async throws {
        try await Self.with(longestBody: 10) {
            Self.echo($0)
        } _: { port, _ in
            let client = try await RawClient(port: port)
            let long = String(repeating: "x", count: 1 << 20)
            try await client.send(Self.post("/", "0123456789") + Self.post("/", long) + Self.post("/", "short"))
            let text = try await client.responses(3, endingWith: ";")
            #expect(text.contains("0123456789;") && text.contains("too long;") && text.hasSuffix("short;"))
            try await client.close()
        }
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "no HTTP at all\r\n\r\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    func `what is not clear is refused`(_ request: String) async throws {
        let asked = NIOLockedValueBox(0)
        try await Self.with { request in
            asked.withLockedValue { $0 += 1 }
            return Self.echo(request)
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send(request)
            #expect(try await client.responses(1, endingWith: "\r\n\r\n").hasPrefix("HTTP/1.1 400 "))
        }
        #expect(asked.withLockedValue { $0 } == 0)
    }

    @Test func `HEAD has the length of a body and no body`() async throws {
        try await Self.with {
            Self.echo($0)
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            let text = try await client.responses(1, endingWith: "\r\n\r\n")
            #expect(text.contains("Content-Length: 10\r\n") && text.hasSuffix("\r\n\r\n"))
        }
    }

    @Test func `whoever ends its side after the request is answered`() async throws {
        let gate = AsyncStream<Void>.makeStream()
        try await Self.with { request in
            for await _ in gate.stream {}
            return Self.echo(request)
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            try await client.endOutput()
            gate.continuation.finish()
            #expect(try await client.responses(1, endingWith: ";").hasSuffix("GET /x - ;"))
            try await eventually("the end") { client.isClosed }
        }
    }

    @Test func `the work for a requester who has gone is cancelled`() async throws {
        let states = NIOLockedValueBox<[String]>([])
        try await Self.with { request in
            states.withLockedValue { $0.append("begun") }
            try? await Task.sleep(for: .seconds(3600))
            states.withLockedValue { $0.append("cancelled") }
            return nil
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            try await eventually("the request") { states.withLockedValue { $0 } == ["begun"] }
            try await client.reset()
            try await eventually("the cancellation") { states.withLockedValue { $0 } == ["begun", "cancelled"] }
        }
    }

    @Test func `no response is the end of the connection`() async throws {
        try await Self.with { _ in
            nil
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            try await eventually("the end") { client.isClosed }
            #expect(client.received.isEmpty)
        }
    }

    @Test func `pieces come as they are there, and what breaks off is seen to`() async throws {
        struct Break: Error {}
        try await Self.with { request in
            let pieces = AsyncThrowingStream<ByteBuffer, any Error>.makeStream()
            for piece in ["one,", "two."] { pieces.continuation.yield(ByteBuffer(string: piece)) }
            pieces.continuation.finish(throwing: request.path == "/broken" ? Break() : nil)
            return HTTPResponse(type: "text/plain", .pieces(pieces.stream))
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send("GET /whole HTTP/1.1\r\nHost: a\r\n\r\n")
            let whole = try await client.responses(1, endingWith: "0\r\n\r\n")
            #expect(whole.contains("4\r\none,\r\n4\r\ntwo.\r\n") && !client.isClosed)
            try await client.send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")
            try await eventually("the end") { client.isClosed }
            #expect(client.received.hasSuffix("two.\r\n"))
            let old = try await RawClient(port: port)
            try await old.send("GET /whole HTTP/1.0\r\n\r\n")
            try await eventually("the end") { old.isClosed }
            #expect(old.received.hasSuffix("\r\n\r\none,two."))
        }
    }

    @Test func `a body that is waited to be asked for is asked for`() async throws {
        try await Self.with {
            Self.echo($0)
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            try await eventually("the permission") { client.received.hasPrefix("HTTP/1.1 100 ") }
            try await client.send("abc")
            #expect(try await client.responses(1, endingWith: ";").hasSuffix("POST / - abc;"))
            try await client.close()
        }
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ])
    func `who wants another protocol gets an answer, and then the end`(_ request: String) async throws {
        try await Self.with {
            Self.echo($0)
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send(request)
            #expect(try await client.responses(1, endingWith: ";").contains("Connection: close"))
            try await eventually("the end") { client.isClosed }
        }
    }

    @Test func `what has no end of its own is not read without one`() async throws {
        try await Self.with(longestBody: 10) {
            Self.echo($0)
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
            try await eventually("the end") {
                try? await client.send(String(repeating: "x", count: 1 << 20))
                return client.isClosed
            }
            let head = try await RawClient(port: port)
            try? await head.send("GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "x", count: 100_000))
            try await eventually("the refusal") { head.received.hasPrefix("HTTP/1.1 400 ") || head.isClosed }
        }
    }

    @Test func `whoever holds many connections open keeps nobody else from an answer`() async throws {
        try await Self.with(connections: 8) {
            Self.echo($0)
        } _: { port, _ in
            var idle: [RawClient] = []
            for index in 0..<40 {
                let client = try await RawClient(port: port)
                if index % 2 == 0 { try? await client.send("GET / HTTP/1.1\r\nHost: a\r\nX-") }
                idle.append(client)
            }
            let client = try await RawClient(port: port)
            try await client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try await client.responses(1, endingWith: ";").hasSuffix("GET /x - ;"))
            try await eventually("the end of those that have waited longest") {
                idle.count(where: { $0.isClosed }) == 33
            }
            for client in idle where !client.isClosed { try await client.close() }
            try await client.close()
        }
    }

    @Test func `whoever keeps all connections busy keeps nobody else from an answer`() async throws {
        let gate = AsyncStream<Void>.makeStream()
        try await Self.with(connections: 4) { request in
            if request.path == "/busy" { for await _ in gate.stream {} }
            return Self.echo(request)
        } _: { port, _ in
            var busy: [RawClient] = []
            for _ in 0..<4 {
                let client = try await RawClient(port: port)
                try await client.send("GET /busy HTTP/1.1\r\nHost: a\r\n\r\n")
                busy.append(client)
            }
            // Those that answer must be known as such, or the new one would only take the place of one that waits.
            let client = try await RawClient(port: port)
            try await client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try await client.responses(1, endingWith: ";").hasSuffix("GET /x - ;"))
            try await eventually("the end of one") { busy.contains { $0.isClosed } }
            gate.continuation.finish()
            try await client.close()
        }
    }

    @Test func `a request that comes byte by byte has its time`() async throws {
        try await Self.with(wait: .milliseconds(300)) {
            Self.echo($0)
        } _: { port, _ in
            let client = try await RawClient(port: port)
            // On a busy machine the time may be over before the first byte is sent.
            try? await client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
            try await eventually("the end") {
                try? await client.send("x")
                return client.isClosed
            }
            #expect(client.received.isEmpty)
        }
    }

    @Test func `a large response comes whole`() async throws {
        try await Self.with { _ in
            HTTPResponse(type: "text/plain", [UInt8](repeating: 0x7A, count: 3_000_001) + [0x3B])
        } _: {
            port,
            _ in
            let client = try await RawClient(port: port)
            try await client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let text = try await client.responses(1, endingWith: ";")
            #expect(text.utf8.filter { $0 == 0x7A }.count == 3_000_001)
            try await client.close()
        }
    }

    @Test func `a server waits for the work that goes on without its requester`() async throws {
        let gate = AsyncStream<Void>.makeStream()
        let states = NIOLockedValueBox<[String]>([])
        try await Self.with { request in
            states.withLockedValue { $0.append("begun") }
            await Task { for await _ in gate.stream {} }.value
            states.withLockedValue { $0.append("done") }
            return nil
        } _: { port, end in
            let client = try await RawClient(port: port)
            try await client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            try await eventually("the request") { states.withLockedValue { $0 } == ["begun"] }
            try await client.reset()
            end()
            try await eventually("the end of the listening") { (try? await RawClient(port: port)) == nil }
            gate.continuation.finish()
        }
        #expect(states.withLockedValue { $0 } == ["begun", "done"])
    }

    @Test func `at its end a server answers what was asked, and closes the rest`() async throws {
        let gate = AsyncStream<Void>.makeStream()
        let asked = NIOLockedValueBox(false)
        try await Self.with { request in
            asked.withLockedValue { $0 = true }
            for await _ in gate.stream {}
            return Self.echo(request)
        } _: { port, end in
            let idle = try await RawClient(port: port)
            let busy = try await RawClient(port: port)
            try await busy.send("GET /busy HTTP/1.1\r\nHost: a\r\n\r\n")
            try await eventually("the request") { asked.withLockedValue { $0 } }
            end()
            try await eventually("the end of who is idle") { idle.isClosed }
            await #expect(throws: (any Error).self) { _ = try await RawClient(port: port) }
            #expect(!busy.isClosed)
            gate.continuation.finish()
            #expect(try await busy.responses(1, endingWith: ";").hasSuffix("GET /busy - ;"))
            try await eventually("the end") { busy.isClosed }
        }
    }

    @Test func `a server does not wait for ever at its end`() async throws {
        let asked = NIOLockedValueBox(false)
        try await Self.with(patience: .milliseconds(100)) { _ in
            asked.withLockedValue { $0 = true }
            try? await Task.sleep(for: .seconds(3600))
            return nil
        } _: { port, _ in
            let client = try await RawClient(port: port)
            try await client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            try await eventually("the request") { asked.withLockedValue { $0 } }
        }
    }
}
