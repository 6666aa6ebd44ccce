import EditJob
import NIOCore
import NIOPosix
import SeedreamAPI
import TestSupport
import Testing

/// Answers as servers really send them: compressed, announced to be the last, or without an end.
@Suite(.timeLimit(.minutes(10)))
struct AnswerReadingTests {
    private static let body = #"{"task_id":"t"}"#
    private static let gzip: [UInt8] = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 42, 73, 44, 206, 142, 207, 76, 81, 178, 82, 42, 81, 170, 5, 0, 131,
        139, 138, 200, 15, 0, 0, 0,
    ]
    private static let zlib: [UInt8] = [
        120, 156, 171, 86, 42, 73, 44, 206, 142, 207, 76, 81, 178, 82, 42, 81, 170, 5, 0, 42, 157, 5, 14,
    ]
    /// Without zlib's frame, which RFC 9110 §8.4.1.2 demands.
    private static let deflate: [UInt8] = [171, 86, 42, 73, 44, 206, 142, 207, 76, 81, 178, 82, 42, 81, 170, 5, 0]
    /// 200 000 letters.
    private static let bomb: [UInt8] = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 237, 193, 49, 1, 0, 0, 0, 194, 160, 172, 235, 95, 194, 12, 254, 64, 1, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 175, 1, 155, 83, 105, 224, 64, 13, 3, 0,
    ]
    private static let certificate = Task { try await TestCertificate(for: "IP:127.0.0.1") }

    private static func submit(
        over transport: Bool = false,
        _ script: @escaping @Sendable (Int, ScriptedServer.Request) -> ScriptedServer.Step
    ) async throws -> SubmissionOutcome {
        let certificate = transport ? try await certificate.value : nil
        let server = try await ScriptedServer(certificate: certificate, script)
        var options = SeedreamClient.Options(
            baseURL: "\(transport ? "https" : "http")://127.0.0.1:\(server.port)",
            connections: 1,
            userAgent: "test"
        )
        options.caFile = certificate?.certificatePath
        options.timeout = .seconds(20)
        var outcome = SubmissionOutcome.unknown(.init(kind: .silent))
        try await SeedreamClient.with(options) { client in
            let request = SubmissionRequest(jobID: "j", body: Array("{}".utf8), token: "t")
            outcome = OutcomeTable.outcome(of: await client.submit(request))
        }
        #expect(server.requests.map { $0.header("accept-encoding") } == ["identity"])
        return outcome
    }

    private static func packed(_ bytes: [UInt8], _ coding: String, status: Int = 200) -> ScriptedServer.Step {
        let head =
            "HTTP/1.1 \(status) X\r\nContent-Type: application/json\r\nContent-Encoding: \(coding)\r\n"
            + "Content-Length: \(bytes.count)\r\n\r\n"
        return .sendBytes(Array(head.utf8) + bytes)
    }

    @Test(arguments: [("gzip", gzip), ("GZIP", gzip), ("deflate", zlib)])
    func `a compressed answer is read though none was asked for`(_ coding: String, _ bytes: [UInt8]) async throws {
        for isSecure in [false, true] {
            let outcome = try await Self.submit(over: isSecure) { _, _ in Self.packed(bytes, coding) }
            #expect(outcome == .accepted(taskID: "t", .taskIDIsNoUUID))
        }
    }

    @Test(arguments: [
        ("br", gzip), ("gzip", Array("nonsense".utf8)), ("gzip", Array(gzip.prefix(20))), ("gzip", bomb),
        ("deflate", deflate),
    ])
    func `a coding that cannot be read is in doubt, and a refusal stays one`(
        _ coding: String,
        _ bytes: [UInt8]
    ) async throws {
        let unreadable = SubmissionOutcome.unknown(.init(kind: .unreadable, status: 200))
        #expect(try await Self.submit { _, _ in Self.packed(bytes, coding) } == unreadable)
        let refused = try await Self.submit { _, _ in Self.packed(bytes, coding, status: 401) }
        #expect(refused == .serviceFault(.init(reason: .auth, status: 401)))
    }

    private static func untilTheEnd(_ body: String) -> ScriptedServer.Step {
        .sendAndCut("HTTP/1.1 200 X\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n\(body)")
    }

    @Test func `TLS that ends without a close counts by what has come`() async throws {
        let whole = try await Self.submit(over: true) { _, _ in Self.untilTheEnd(Self.body) }
        #expect(whole == .accepted(taskID: "t", .taskIDIsNoUUID))
        let unreadable = SubmissionOutcome.unknown(.init(kind: .unreadable, status: 200))
        let cut = try await Self.submit(over: true) { _, _ in Self.untilTheEnd(#"{"task_id":"t"#) }
        #expect(cut == unreadable)
        // Its length vouches for one, and gives the other away.
        let counted = try await Self.submit(over: true) { _, _ in
            .sendAndCut(ScriptedServer.answer(200, Self.body))
        }
        #expect(counted == .accepted(taskID: "t", .taskIDIsNoUUID))
        let short = try await Self.submit(over: true) { _, _ in
            .sendAndCut("HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n\(Self.body)")
        }
        #expect(short == unreadable)
        let silent = try await Self.submit(over: true) { _, _ in .sendAndCut("") }
        #expect(silent == .unknown(.init(kind: .silent)))
    }

    /// Which connections five submissions in a row are sent on, if the server announces how long it keeps them.
    private static func connections(_ announced: String) async throws -> [Int] {
        let server = try await ScriptedServer { _, _ in
            .send(ScriptedServer.answer(200, body, headers: "Keep-Alive: \(announced)\r\n"))
        }
        var options = SeedreamClient.Options(
            baseURL: "http://127.0.0.1:\(server.port)",
            connections: 1,
            userAgent: "test"
        )
        options.idleTimeout = .seconds(60)
        try await SeedreamClient.with(options) { client in
            for _ in 0..<5 { _ = await client.submit(.init(jobID: "j", body: Array("{}".utf8), token: "t")) }
        }
        return server.requests.map(\.connection)
    }

    @Test(arguments: ["timeout=1", "max=5, timeout=1", "TIMEOUT=0", "timeout=\"1\"", "timeout=-5"])
    func `a connection that its server is about to close is not used again`(_ announced: String) async throws {
        #expect(try await Self.connections(announced) == [0, 1, 2, 3, 4])
    }

    @Test(arguments: ["timeout=300", "timeout=99999999999999999", "max=100", "nonsense"])
    func `a connection that its server keeps is used again`(_ announced: String) async throws {
        #expect(try await Self.connections(announced) == [0, 0, 0, 0, 0])
    }

    @Test func `a reserved connection is there when the submission starts, and nobody else's`() async throws {
        let server = try await ScriptedServer { _, _ in .send(ScriptedServer.answer(200, Self.body)) }
        let options = SeedreamClient.Options(
            baseURL: "http://127.0.0.1:\(server.port)",
            connections: 2,
            userAgent: "test"
        )
        try await SeedreamClient.with(options) { client in
            func request(_ id: String) -> SubmissionRequest { .init(jobID: id, body: Array("{}".utf8), token: "t") }
            let first = await client.reserve()
            #expect(await first.isUsable() && server.openConnections == 1 && server.requests.isEmpty)
            // Another submission meanwhile takes another connection.
            _ = await client.submit(request("other"))
            _ = await client.submit(request("reserved"), over: first)
            let keys = server.requests.map { $0.header("idempotency-key") }
            #expect(keys == ["other", "reserved"] && server.requests.map(\.connection) == [1, 0])
            // One that is dropped is free for the next.
            do { _ = await client.reserve() }
            _ = await client.submit(request("next"))
            _ = await client.submit(request("last"))
            #expect(Set(server.requests.map(\.connection)) == [0, 1])
        }
    }

    @Test func `a reservation says why there is no connection, and nothing is sent`() async throws {
        let options = SeedreamClient.Options(baseURL: "http://127.0.0.1:1", connections: 1, userAgent: "test")
        try await SeedreamClient.with(options) { client in
            let none = await client.reserve()
            #expect(none.failure == .notConnected)
            let request = SubmissionRequest(jobID: "j", body: [], token: "t")
            #expect(await client.submit(request, over: none) == .failed(.notConnected))
        }
    }

    @Test func `a reserved connection that has ended is found out before the start`() async throws {
        let server = try await ScriptedServer { _, _ in .close }
        let options = SeedreamClient.Options(
            baseURL: "http://127.0.0.1:\(server.port)",
            connections: 1,
            userAgent: "test"
        )
        try await SeedreamClient.with(options) { client in
            let reservation = await client.reserve()
            // The server goes away, and with it its connections.
            try await server.closeConnections()
            try await eventually("the end is seen") { await !reservation.isUsable() }
        }
    }
}
