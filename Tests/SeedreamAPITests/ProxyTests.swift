import Foundation
import NIOPosix
import SeedreamAPI
import SharedValues
import TestSupport
import Testing

/// The way to the API through a proxy: what fails before the tunnel stands was not sent.
@Suite(.timeLimit(.minutes(10)))
struct ProxyTests {
    private static let accepted = ScriptedServer.answer(200, #"{"task_id":"t"}"#)
    private static let certificate = Task { try await TestCertificate(for: "IP:127.0.0.1") }

    private static func request() -> SubmissionRequest {
        SubmissionRequest(jobID: "j", body: Array("{}".utf8), token: "secret-token")
    }

    /// What a submission through a proxy sees, and how many requests the API has seen.
    private static func submit(
        through proxy: TunnelProxy,
        credentials: String = "",
        isSecure: Bool = false,
        trusts: Bool = true,
        connectTimeout: Duration = .seconds(20)
    ) async throws -> (result: SubmissionResult, requests: Int) {
        let certificate = isSecure ? try await certificate.value : nil
        let server = try await ScriptedServer(certificate: certificate) { _, _ in .send(Self.accepted) }
        var options = SeedreamClient.Options(
            baseURL: "\(isSecure ? "https" : "http")://127.0.0.1:\(server.port)",
            connections: 2,
            userAgent: "test"
        )
        options.connectTimeout = connectTimeout
        options.caFile = trusts ? certificate?.certificatePath : nil
        options.proxy = try ProxyAddress(parsing: "http://\(credentials)127.0.0.1:\(proxy.port)")
        var result = SubmissionResult.failed(.cancelled)
        try await SeedreamClient.with(options) { client in
            result = await client.submit(Self.request())
            if case .answered = result {
                // The connection is kept, and the tunnel with it.
                #expect(await client.submit(Self.request()) == result)
            }
        }
        return (result, server.requests.count)
    }

    @Test(arguments: [false, true]) func `a job is submitted once through a tunnel`(_ isSecure: Bool) async throws {
        let proxy = try await TunnelProxy()
        let (result, requests) = try await Self.submit(
            through: proxy,
            credentials: "app:p%40ss@",
            isSecure: isSecure
        )
        #expect(result == .answered(APIAnswer(status: 200, body: .complete(Array(#"{"task_id":"t"}"#.utf8)))))
        #expect(requests == 2)
        let head = try #require(proxy.requests.first)
        #expect(proxy.requests.count == 1 && head.hasPrefix("CONNECT 127.0.0.1:"))
        let credentials = Data("app:p@ss".utf8).base64EncodedString()
        #expect(head.lowercased().contains("proxy-authorization: basic \(credentials.lowercased())"))
        // Nothing of the API's is for the proxy.
        #expect(!head.contains("secret-token"))
    }

    @Test(arguments: [
        TunnelProxy.Step.refuse("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"),
        .refuse("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"), .refuse("garbage\r\n\r\n"),
        .close,
    ])
    func `a proxy that opens no tunnel has sent nothing`(_ step: TunnelProxy.Step) async throws {
        let proxy = try await TunnelProxy { _ in step }
        let (result, requests) = try await Self.submit(through: proxy)
        #expect(Self.isOfProxy(result) && requests == 0)
    }

    /// Whether it is told as the proxy's fault, and closes the gate as what was not sent.
    private static func isOfProxy(_ result: SubmissionResult) -> Bool {
        guard case .serviceFault(let fault) = OutcomeTable.outcome(of: result), case .proxy? = fault.cause else {
            return false
        }
        return fault.reason == .connect
    }

    @Test func `a proxy that says nothing is given up, and has sent nothing`() async throws {
        let proxy = try await TunnelProxy { _ in .hang }
        let (result, requests) = try await Self.submit(through: proxy, connectTimeout: .seconds(2))
        #expect(Self.isOfProxy(result) && requests == 0)
    }

    @Test func `a certificate behind the tunnel is checked like any other`() async throws {
        let (result, requests) = try await Self.submit(through: TunnelProxy(), isSecure: true, trusts: false)
        #expect(result == .failed(.tls) && requests == 0)
    }

    @Test func `a proxy without an address is not the API's name`() async throws {
        var options = SeedreamClient.Options(baseURL: "http://127.0.0.1:1", connections: 1, userAgent: "test")
        options.proxy = try ProxyAddress(parsing: "http://proxy.invalid:3128")
        try await SeedreamClient.with(options) { client in
            let words = "the name of the proxy http://proxy.invalid:3128 has no address"
            #expect(await client.submit(Self.request()) == .failed(.proxy(words)))
        }
    }

    @Test func `the way is tried through the proxy too, and says what is wrong with it`() async throws {
        let proxy = try await TunnelProxy { _ in
            .refuse("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        }
        let address = try ProxyAddress(parsing: "http://app:secret@127.0.0.1:\(proxy.port)")
        let fault = await #expect(throws: EndpointProbe.Fault.self) {
            try await EndpointProbe.reach(
                "http://127.0.0.1:1",
                caFile: nil,
                proxy: address,
                timeout: .seconds(20),
                group: .singleton
            )
        }
        guard case .unreachable(_, let reason)? = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
        #expect(reason == "the proxy http://127.0.0.1:\(proxy.port) wants a user and a password (407)")
    }
}
