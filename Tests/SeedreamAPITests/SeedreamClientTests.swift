import EditJob
import NIOCore
import NIOPosix
import SeedreamAPI
import TestSupport
import Testing

extension SeedreamClient {
    /// A client for the length of a test.
    static func with(
        _ options: Options,
        on group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        _ body: (SeedreamClient) async throws -> Void
    ) async throws {
        let client = try SeedreamClient(options, group: group)
        do {
            try await body(client)
            try await client.shutdown()
        } catch {
            try? await client.shutdown()
            throw error
        }
    }
}

/// The client against real sockets.
@Suite(.timeLimit(.minutes(10)))
struct SeedreamClientTests {
    private static let accepted = ScriptedServer.answer(200, #"{"task_id":"t"}"#)

    private static func withClient(
        port: Int,
        baseURL: String? = nil,
        timeout: Duration = .seconds(20),
        caFile: String? = nil,
        _ body: (SeedreamClient) async throws -> Void
    ) async throws {
        var options = SeedreamClient.Options(
            baseURL: "http://127.0.0.1:\(port)/base",
            connections: 8,
            userAgent: "seedream-worker/1.2.3"
        )
        options.timeout = timeout
        options.caFile = caFile
        if let baseURL { options.baseURL = baseURL }
        try await SeedreamClient.with(options, body)
    }

    /// Of an answer that is all x; its beginning is kept.
    private static func tooLong(_ kept: Int) -> SubmissionResult {
        var answer = APIAnswer(status: 200, body: .tooLong)
        answer.fragment = Array(repeating: UInt8(ascii: "x"), count: kept)
        return .answered(answer)
    }

    private static func request(_ id: String = "job") -> SubmissionRequest {
        SubmissionRequest(jobID: id, body: Array(#"{"a":1}"#.utf8), token: "tok")
    }

    @Test func `a request has just what the contract says`() async throws {
        let server = try await ScriptedServer { _, _ in .send(Self.accepted) }
        try await Self.withClient(port: server.port) { client in
            var request = Self.request("id with blank/ü%")
            request.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            request.tracestate = "a=b"
            _ = await client.submit(request)
        }
        let seen = try #require(server.requests.first)
        #expect(seen.path == "/base/v1/generate/k/seedream-v4-edit")
        #expect(seen.body == Array(#"{"a":1}"#.utf8))
        #expect(seen.header("Authorization") == "Bearer tok")
        #expect(seen.header("Content-Type") == "application/json")
        #expect(seen.header("Content-Length") == "7")
        #expect(seen.header("Transfer-Encoding") == nil)
        #expect(seen.header("Accept") == "application/json")
        #expect(seen.header("User-Agent") == "seedream-worker/1.2.3")
        #expect(seen.header("Idempotency-Key") == "id%20with%20blank/%C3%BC%")
        #expect(seen.header("traceparent") == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        #expect(seen.header("tracestate") == "a=b")
        #expect(seen.headers.filter { $0.name.lowercased() == "content-length" }.count == 1)
    }

    @Test(arguments: [ScriptedServer.Step.close, .reset])
    func `a request that was read is never sent again, also on a kept-alive connection`(
        _ step: ScriptedServer.Step
    ) async throws {
        // On a busy machine the idle connection may be given up before the second request.
        var connections: [Int] = []
        for _ in 0..<5 where connections != [0, 0] {
            let server = try await ScriptedServer { index, _ in index == 0 ? .send(Self.accepted) : step }
            try await Self.withClient(port: server.port) { client in
                _ = await client.submit(Self.request("first"))
                #expect(await client.submit(Self.request("second")) == .failed(.connectionEnded))
            }
            #expect(server.requests.map { $0.header("Idempotency-Key") } == ["first", "second"])
            connections = server.requests.map(\.connection)
        }
        #expect(connections == [0, 0], "the second must go over the kept-alive connection")
    }

    @Test func `a redirect is an answer, not an order`() async throws {
        let server = try await ScriptedServer { _, _ in
            .send(ScriptedServer.answer(307, "", headers: "Location: /elsewhere\r\n"))
        }
        try await Self.withClient(port: server.port) { client in
            guard case .answered(let answer) = await client.submit(Self.request()) else {
                Issue.record("no answer")
                return
            }
            #expect(answer.status == 307)
        }
        #expect(server.requests.count == 1)
    }

    @Test func `an answer that is too long is not read to its end`() async throws {
        let body = String(repeating: "x", count: 70_000)
        let server = try await ScriptedServer { _, _ in .send(ScriptedServer.answer(200, body)) }
        try await Self.withClient(port: server.port) { client in
            #expect(await client.submit(Self.request()) == Self.tooLong(4096))
        }
    }

    @Test func `an answer that is cut keeps its status`() async throws {
        let server = try await ScriptedServer { _, _ in
            .sendAndClose("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nRetry-After: 3\r\n\r\n{\"task")
        }
        try await Self.withClient(port: server.port) { client in
            var cut = APIAnswer(status: 200, retryAfter: "3", body: .cut)
            cut.fragment = Array("{\"task".utf8)
            #expect(await client.submit(Self.request()) == .answered(cut))
        }
    }

    @Test func `silence ends with the timeout`() async throws {
        let server = try await ScriptedServer { _, _ in .hang }
        try await Self.withClient(port: server.port, timeout: .seconds(2)) { client in
            #expect(await client.submit(Self.request()) == .failed(.timedOut))
        }
        #expect(server.requests.count == 1)
    }

    @Test func `garbage instead of HTTP is no answer`() async throws {
        let server = try await ScriptedServer { _, _ in .sendAndClose("SSH-2.0-OpenSSH_9.2\r\n") }
        try await Self.withClient(port: server.port) { client in
            #expect(await client.submit(Self.request()) == .failed(.connectionEnded))
        }
    }

    @Test func `what was not sent is told apart from what may have been`() async throws {
        try await Self.withClient(port: 1) { client in
            #expect(await client.submit(Self.request()) == .failed(.notConnected))
        }
        try await Self.withClient(port: 1, baseURL: "http://no-such-host.invalid") { client in
            #expect(await client.submit(Self.request()) == .failed(.nameNotResolved))
        }
    }

    @Test func `a certificate is verified, peer and host name, with an own root`() async throws {
        let certificate = try await TestCertificate(for: "IP:127.0.0.1")
        let stranger = try await TestCertificate(for: "DNS:other.example")
        let server = try await ScriptedServer(certificate: certificate) { _, _ in .send(Self.accepted) }
        let misnamed = try await ScriptedServer(certificate: stranger) { _, _ in .send(Self.accepted) }
        func result(_ port: Int, root: TestCertificate?) async throws -> SubmissionResult? {
            var seen: SubmissionResult?
            let root = root?.certificatePath
            try await Self.withClient(port: port, baseURL: "https://127.0.0.1:\(port)", caFile: root) { client in
                seen = await client.submit(Self.request())
            }
            return seen
        }
        let trusted = try await result(server.port, root: certificate)
        #expect(trusted == .answered(APIAnswer(status: 200, body: .complete(Array(#"{"task_id":"t"}"#.utf8)))))
        let untrusted = try await result(server.port, root: nil)
        #expect(untrusted == .failed(.tls))
        let wrongName = try await result(misnamed.port, root: stranger)
        #expect(wrongName == .failed(.tls))
        #expect(server.requests.count == 1)
        #expect(misnamed.requests.isEmpty)
    }

    @Test func `TLS before 1.2 is refused, and nothing is sent`() async throws {
        let certificate = try await TestCertificate(for: "IP:127.0.0.1")
        let server = try await ScriptedServer(certificate: certificate, isOutdated: true) { _, _ in
            .send(Self.accepted)
        }
        let url = "https://127.0.0.1:\(server.port)"
        try await Self.withClient(port: server.port, baseURL: url, caFile: certificate.certificatePath) { client in
            #expect(await client.submit(Self.request()) == .failed(.tls))
        }
        #expect(server.requests.isEmpty)
    }

    @Test func `many requests are in flight at once, a connection each`() async throws {
        let server = try await ScriptedServer { _, _ in .hang }
        try await Self.withClient(port: server.port) { client in
            await withTaskGroup(of: Void.self) { group in
                for index in 0..<8 { group.addTask { _ = await client.submit(Self.request("\(index)")) } }
                try? await eventually("8 requests") { server.requests.count == 8 }
                group.cancelAll()
            }
        }
        #expect(Set(server.requests.map(\.connection)).count == 8)
    }
}
