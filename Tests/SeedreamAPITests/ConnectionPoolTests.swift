import Dispatch
import EditJob
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import SeedreamAPI
import TestSupport
import Testing

/// The client's connections: how many, how long, and what each end of one means for the request on it.
@Suite(.timeLimit(.minutes(10)))
struct ConnectionPoolTests {
    private static let accepted = ScriptedServer.answer(200, #"{"task_id":"t"}"#)
    private static let answered = SubmissionResult.answered(
        APIAnswer(status: 200, body: .complete(Array(#"{"task_id":"t"}"#.utf8)))
    )

    /// How the server is spoken to: a connection that is being closed is another thing under TLS.
    enum Transport: String, CaseIterable, Sendable {
        case plain, tls
    }

    private static let certificate = Task { try await TestCertificate(for: "IP:127.0.0.1") }

    /// A server that is scripted, and how a client reaches it.
    private struct Server {
        let scripted: ScriptedServer
        let certificate: TestCertificate?

        init(
            _ transport: Transport,
            _ script: @escaping @Sendable (Int, ScriptedServer.Request) -> ScriptedServer.Step
        ) async throws {
            certificate = transport == .tls ? try await ConnectionPoolTests.certificate.value : nil
            scripted = try await ScriptedServer(certificate: certificate, script)
        }

        var requests: [ScriptedServer.Request] { scripted.requests }

        func options(connections: Int) -> SeedreamClient.Options {
            let scheme = certificate == nil ? "http" : "https"
            var options = SeedreamClient.Options(
                baseURL: "\(scheme)://127.0.0.1:\(scripted.port)",
                connections: connections,
                userAgent: "test"
            )
            options.caFile = certificate?.certificatePath
            // Which connection is used must not depend on how busy this machine is.
            options.idleTimeout = .seconds(60)
            return options
        }
    }

    private static func with(
        _ server: Server,
        connections: Int = 8,
        timeout: Duration = .seconds(20),
        _ body: (SeedreamClient) async throws -> Void
    ) async throws {
        var options = server.options(connections: connections)
        options.timeout = timeout
        try await SeedreamClient.with(options, body)
    }

    private static func with(
        url: String,
        connections: Int = 8,
        connectTimeout: Duration = .seconds(5),
        _ body: (SeedreamClient) async throws -> Void
    ) async throws {
        var options = SeedreamClient.Options(baseURL: url, connections: connections, userAgent: "test")
        options.connectTimeout = connectTimeout
        try await SeedreamClient.with(options, body)
    }

    private static func request(_ id: String, bytes: Int = 7) -> SubmissionRequest {
        SubmissionRequest(jobID: id, body: [UInt8](repeating: UInt8(ascii: " "), count: bytes), token: "tok")
    }

    /// Submits two, one after the other, and tells on which connections of the server they came.
    private static func connectionsOfTwo(after first: ScriptedServer.Step, _ transport: Transport) async throws -> [Int]
    {
        let server = try await Server(transport) { index, _ in index == 0 ? first : .send(accepted) }
        try await with(server) { client in
            _ = await client.submit(request("first"))
            #expect(await client.submit(request("second")) == answered)
        }
        return server.requests.map(\.connection)
    }

    @Test(arguments: Transport.allCases)
    func `every status means the same over a connection as in the table`(_ transport: Transport) async throws {
        // 101 has its own test; 1xx are no answers; these have no body, whatever a server says.
        let bodiless = [204, 304]
        let server = try await Server(transport) { _, request in
            let status = request.header("Idempotency-Key").flatMap { Int($0) } ?? 0
            return bodiless.contains(status)
                ? .send("HTTP/1.1 \(status) X\r\n\r\n")
                : .send(ScriptedServer.answer(status, #"{"task_id":"t"}"#, headers: "Retry-After: 7\r\n"))
        }
        try await Self.with(server, connections: 1) { client in
            for status in 200...599 {
                let result = await client.submit(Self.request("\(status)"))
                let isBare = bodiless.contains(status)
                let answer = APIAnswer(
                    status: status,
                    retryAfter: isBare ? nil : "7",
                    body: .complete(isBare ? [] : Array(#"{"task_id":"t"}"#.utf8))
                )
                #expect(result == .answered(answer))
                #expect(OutcomeTable.outcome(of: result) == OutcomeTable.outcome(of: .answered(answer)))
            }
        }
        #expect(Set(server.requests.map(\.connection)) == [0], "each answer leaves the connection usable")
    }

    @Test(arguments: Transport.allCases)
    func `no more connections than allowed, and nobody in the line is forgotten`(_ transport: Transport) async throws {
        let server = try await Server(transport) { _, _ in .send(Self.accepted) }
        try await Self.with(server, connections: 3) { client in
            await withTaskGroup(of: SubmissionResult.self) { group in
                for index in 0..<200 { group.addTask { await client.submit(Self.request("\(index)")) } }
                for await result in group { #expect(result == Self.answered) }
            }
        }
        #expect(server.requests.count == 200)
        #expect(Set(server.requests.map(\.connection)).isSubset(of: [0, 1, 2]))
    }

    @Test(arguments: Transport.allCases)
    func `whoever waits in vain for a connection has sent nothing`(_ transport: Transport) async throws {
        let server = try await Server(transport) { _, _ in .hang }
        try await Self.with(server, connections: 1, timeout: .seconds(10)) { client in
            async let first = client.submit(Self.request("first"))
            try await eventually("the first request") { server.requests.count == 1 }
            async let second = client.submit(Self.request("second"))
            let cancelled = Task { await client.submit(Self.request("third")) }
            cancelled.cancel()
            #expect(await cancelled.value == .failed(.notWritten))
            #expect(await first == .failed(.timedOut))
            let late = await second
            #expect([.failed(.notWritten), .failed(.timedOut)].contains(late))
        }
        #expect(!server.requests.contains { $0.header("Idempotency-Key") == "third" })
    }

    @Test(arguments: Transport.allCases)
    func `a timeout ends each request at its own time`(_ transport: Transport) async throws {
        let server = try await Server(transport) { index, _ in index.isMultiple(of: 2) ? .send(Self.accepted) : .hang }
        try await Self.with(server, timeout: .seconds(5)) { client in
            for round in 0..<4 {
                let start = ContinuousClock.now
                let result = await client.submit(Self.request("\(round)"))
                #expect(result == (round.isMultiple(of: 2) ? Self.answered : .failed(.timedOut)))
                if !round.isMultiple(of: 2) { #expect(ContinuousClock.now - start >= .milliseconds(4990)) }
            }
        }
    }

    @Test(arguments: Transport.allCases)
    func `a request that is cancelled may have been sent, and its connection is not used again`(_ transport: Transport)
        async throws
    {
        let server = try await Server(transport) { index, _ in index == 0 ? .hang : .send(Self.accepted) }
        try await Self.with(server) { client in
            let first = Task { await client.submit(Self.request("first")) }
            try await eventually("the request") { server.requests.count == 1 }
            first.cancel()
            #expect(await first.value == .failed(.cancelled))
            #expect(await client.submit(Self.request("second")) == Self.answered)
        }
        #expect(server.requests.map(\.connection) == [0, 1])
    }

    @Test(arguments: Transport.allCases)
    func `a connection whose end was announced is not used again`(_ transport: Transport) async throws {
        let body = #"{"task_id":"t"}"#
        let closing = ScriptedServer.answer(200, body, headers: "Connection: close\r\n")
        #expect(try await Self.connectionsOfTwo(after: .send(closing), transport) == [0, 1])
        let old = "HTTP/1.0 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        #expect(try await Self.connectionsOfTwo(after: .send(old), transport) == [0, 1])
        #expect(
            try await Self.connectionsOfTwo(after: .send("HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n"), transport) == [0, 1]
        )
        #expect(try await Self.connectionsOfTwo(after: .send(Self.accepted), transport) == [0, 0])
    }

    @Test(arguments: Transport.allCases)
    func `a second answer to one request is nobody's, least of all the next job's`(_ transport: Transport) async throws
    {
        let second = ScriptedServer.answer(200, #"{"task_id":"of nobody"}"#)
        let server = try await Server(transport) { index, _ in
            .send(index == 0 ? Self.accepted + second : Self.accepted)
        }
        // One connection, so that the next job waits for just this one.
        try await Self.with(server, connections: 1) { client in
            await withTaskGroup(of: SubmissionResult.self) { group in
                for index in 0..<20 { group.addTask { await client.submit(Self.request("\(index)")) } }
                for await result in group { #expect(result == Self.answered) }
            }
        }
        #expect(server.requests.map(\.connection).max() == 1)
    }

    @Test(arguments: Transport.allCases)
    func `half an answer that no request has asked for ends its connection`(_ transport: Transport) async throws {
        let server = try await Server(transport) { _, _ in .send(Self.accepted) }
        var options = server.options(connections: 1)
        // Not by its own time.
        options.idleTimeout = .seconds(3600)
        try await SeedreamClient.with(options) { client in
            #expect(await client.submit(Self.request("first")) == Self.answered)
            try await server.scripted.send("HTTP/1.1 200 OK\r\nContent-Le")
            try await eventually("the end of the connection") { server.scripted.openConnections == 0 }
            #expect(await client.submit(Self.request("second")) == Self.answered)
        }
        #expect(server.requests.map(\.connection) == [0, 1])
    }

    @Test(arguments: Transport.allCases)
    func `an answer that is too long ends its connection, and the next job is not begun on it`(
        _ transport: Transport
    ) async throws {
        let long = ScriptedServer.answer(200, String(repeating: "x", count: 70_000))
        let server = try await Server(transport) { index, _ in .send(index % 2 == 0 ? long : Self.accepted) }
        // One connection, so that the next job waits for just this one.
        try await Self.with(server, connections: 1) { client in
            for round in 0..<20 {
                async let first = client.submit(Self.request("\(round) first"))
                async let second = client.submit(Self.request("\(round) second"))
                let both = await [first, second]
                let isTooLong = both.contains { if case .answered(let it) = $0 { it.body == .tooLong } else { false } }
                #expect(isTooLong && both.contains(Self.answered))
            }
        }
        #expect(server.requests.count == 40)
    }

    @Test(arguments: Transport.allCases)
    func `an answer is read in whatever form it comes`(_ transport: Transport) async throws {
        let forms: [ScriptedServer.Step] = [
            .send("HTTP/1.1 103 Early Hints\r\n\r\n" + Self.accepted),
            .send("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"task_i\r\n7\r\nd\":\"t\"}\r\n0\r\n\r\n"),
            .sendAndClose("HTTP/1.1 200 X\r\n\r\n{\"task_id\":\"t\"}"),
        ]
        let server = try await Server(transport) { index, _ in forms[index] }
        try await Self.with(server) { client in
            for index in forms.indices { #expect(await client.submit(Self.request("\(index)")) == Self.answered) }
        }
    }

    @Test(arguments: Transport.allCases)
    func `a connection that the server closed while it was free costs no request`(_ transport: Transport) async throws {
        let server = try await Server(transport) { index, _ in
            index == 0 ? .sendAndClose(Self.accepted) : .send(Self.accepted)
        }
        try await Self.with(server) { client in
            for index in 0..<20 { #expect(await client.submit(Self.request("\(index)")) == Self.answered) }
        }
        #expect(server.requests.count == 20)
    }

    @Test(arguments: Transport.allCases)
    func `a connection that nobody uses is closed`(_ transport: Transport) async throws {
        let server = try await Server(transport) { _, _ in .send(Self.accepted) }
        var options = server.options(connections: 1)
        options.idleTimeout = .milliseconds(50)
        try await SeedreamClient.with(options) { client in
            for index in 0..<2 {
                #expect(await client.submit(Self.request("\(index)")) == Self.answered)
                try await eventually("the end of the connection") { server.scripted.openConnections == 0 }
            }
        }
        #expect(server.requests.map(\.connection) == [0, 1])
    }

    @Test func `who gives up before being handed a connection leaves it to the next`() async throws {
        let server = try await Server(.plain) { _, _ in .send(Self.accepted) }
        var options = server.options(connections: 1)
        options.timeout = .seconds(5)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        try await SeedreamClient.with(options, on: group) { client in
            #expect(await client.submit(Self.request("first")) == Self.answered)
            // So that the loop finds the submission and its end in the same turn.
            let held = DispatchSemaphore(value: 0)
            group.next().execute { held.wait() }
            let givenUp = Task.immediate { await client.submit(Self.request("given up")) }
            givenUp.cancel()
            held.signal()
            #expect(await givenUp.value == .failed(.notWritten))
            #expect(await client.submit(Self.request("next")) == Self.answered)
        }
        #expect(server.requests.map(\.connection) == [0, 0])
        try await group.shutdownGracefully()
    }

    @Test func `an answer to half a request ends the connection`() async throws {
        // Answers as soon as the first byte is there, and never reads the rest.
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(HastyAnswer(text: Self.accepted))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(server.localAddress?.port)
        try await Self.with(url: "http://127.0.0.1:\(port)") { client in
            let large = 32 << 20
            #expect(await client.submit(Self.request("first", bytes: large)) == Self.answered)
            #expect(await client.submit(Self.request("second", bytes: large)) == Self.answered)
        }
        try await server.close()
    }

    @Test func `each request fails once where nobody listens`() async throws {
        try await Self.with(url: "http://127.0.0.1:1", connections: 4) { client in
            await withTaskGroup(of: SubmissionResult.self) { group in
                for index in 0..<50 { group.addTask { await client.submit(Self.request("\(index)")) } }
                for await result in group { #expect(result == .failed(.notConnected)) }
            }
        }
    }

    @Test func `a handshake that breaks or never ends is TLS's fault, and nothing was sent`() async throws {
        // Speaks HTTP and no TLS.
        let plain = try await ScriptedServer { _, _ in .send(Self.accepted) }
        try await Self.with(url: "https://127.0.0.1:\(plain.port)") { client in
            #expect(await client.submit(Self.request("a")) == .failed(.tls))
        }
        #expect(plain.requests.isEmpty)
        // Accepts and says nothing.
        let silent = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(silent.localAddress?.port)
        try await Self.with(url: "https://127.0.0.1:\(port)", connectTimeout: .seconds(2)) { client in
            #expect(await client.submit(Self.request("b")) == .failed(.tls))
        }
        try await silent.close()
    }

    @Test(arguments: Transport.allCases)
    func `what is in flight when the client ends is cancelled, and what comes later is not sent`(_ transport: Transport)
        async throws
    {
        let server = try await Server(transport) { _, _ in .hang }
        let client = try SeedreamClient(server.options(connections: 1), group: MultiThreadedEventLoopGroup.singleton)
        async let first = client.submit(Self.request("first"))
        try await eventually("the request") { server.requests.count == 1 }
        async let waiting = client.submit(Self.request("waiting"))
        try await client.shutdown()
        #expect(await first == .failed(.cancelled))
        #expect(await waiting == .failed(.notWritten))
        #expect(await client.submit(Self.request("late")) == .failed(.notWritten))
        #expect(server.requests.count == 1)
    }

    @Test func `a base URL is taken apart as HTTP clients do`() async throws {
        let server = try await ScriptedServer { _, _ in .send(Self.accepted) }
        for base in ["http://localhost:\(server.port)/a/b", "HTTP://127.0.0.1:\(server.port)"] {
            try await Self.with(url: base) { client in
                #expect(await client.submit(Self.request("a")) == Self.answered)
            }
        }
        #expect(server.requests.map(\.path) == ["/a/b" + SeedreamClient.path, SeedreamClient.path])
        #expect(server.requests.map { $0.header("Host") } == ["localhost:\(server.port)", "127.0.0.1:\(server.port)"])
        for wrong in ["", "ftp://a", "http://", "http://a:0", "http://a:x", "//a"] {
            #expect(throws: SeedreamClient.InvalidURL.self) {
                let options = SeedreamClient.Options(baseURL: wrong, connections: 1, userAgent: "test")
                _ = try SeedreamClient(options, group: MultiThreadedEventLoopGroup.singleton)
            }
        }
    }

    @Test(arguments: Transport.allCases)
    func `what no field can carry is never sent`(_ transport: Transport) async throws {
        let server = try await Server(transport) { _, _ in .send(Self.accepted) }
        try await Self.with(server) { client in
            for evil in ["x\r\nX-Evil: 1", "x\ny", "x\u{0}", "ü"] {
                for field in [\SubmissionRequest.token, \.traceparent!, \.tracestate!] {
                    var request = Self.request("a")
                    (request.traceparent, request.tracestate) = ("", "")
                    request[keyPath: field] = evil
                    #expect(await client.submit(request) == .failed(.notConnected))
                }
            }
            var request = Self.request("a")
            request.token = "two words"
            #expect(await client.submit(request) == .failed(.notConnected))
            // An id is escaped instead.
            request = Self.request("x\r\nX-Evil: 1")
            #expect(await client.submit(request) != .failed(.notConnected))
        }
        #expect(server.requests.map { $0.header("Idempotency-Key") } == ["x%0D%0AX-Evil:%201"])
        #expect(server.requests.allSatisfy { $0.header("X-Evil") == nil })
    }
}

/// Answers the first byte and reads no more.
private final class HastyAnswer: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let text: String

    init(text: String) {
        self.text = text
    }

    func channelActive(context: ChannelHandlerContext) {
        context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
    }
}
