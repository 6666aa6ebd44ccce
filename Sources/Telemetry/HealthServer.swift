import JSON
package import Logging
package import NIOCore
import NIOHTTP1
import WebServer

/// Answers `/livez`, `/readyz` and `/metrics`.
package struct HealthServer: Sendable {
    /// Something without which no job goes through.
    package struct Missing: Hashable, Sendable {
        /// In words that do not change.
        package let what: String
        /// Why it is missing; nil if that is not known.
        package let reason: String?

        package init(_ what: String, reason: String?) {
            self.what = what
            self.reason = reason
        }
    }

    private let host: String
    private let port: Int
    private let group: any EventLoopGroup
    private let registry: PrometheusRegistry
    private let missing: @Sendable () -> [Missing]
    private let logger: Logger

    /// A server for an address, on the event loops of `group`; port 0 lets the system choose.
    package init(
        host: String,
        port: Int,
        group: any EventLoopGroup,
        registry: PrometheusRegistry,
        missing: @escaping @Sendable () -> [Missing],
        logger: Logger
    ) {
        self.host = host
        self.port = port
        self.group = group
        self.registry = registry
        self.missing = missing
        self.logger = logger
    }

    /// Answers until its task is cancelled.
    ///
    /// Throws `HTTPServer.CannotListen`.
    package func run() async throws {
        let server = HTTPServer(host: host, port: port, group: group, bounds: .init(longestBody: 0)) { answer($0) }
        try await server.run { port in
            logger.log(.info, "health and metrics", [.address: "\(host):\(port)"])
        }
    }

    private func answer(_ request: HTTPRequest) -> HTTPResponse {
        guard request.method == .GET else { return Self.response(.methodNotAllowed, Self.text, []) }
        switch request.path {
        // Knows nothing of broker and API: a restart of this process would mend neither.
        case "/livez": return Self.response(.ok, Self.text, Array("ok\n".utf8))
        case "/readyz": return Self.readiness(missing())
        case "/metrics": return Self.response(.ok, PrometheusRegistry.contentType, Array(registry.text.utf8))
        default: return Self.response(.notFound, Self.text, [])
        }
    }

    private static let text = "text/plain; charset=utf-8"

    private static func readiness(_ missing: [Missing]) -> HTTPResponse {
        let list = missing.map { part in
            JSONValue.object(
                [JSONMember("what", .string(part.what))]
                    + (part.reason.map { [JSONMember("reason", .string($0))] } ?? [])
            )
        }
        let body = JSONValue.object([
            JSONMember("ready", .boolean(missing.isEmpty)), JSONMember("missing", .array(list)),
        ])
        return response(missing.isEmpty ? .ok : .serviceUnavailable, "application/json", body.encoded() + [10])
    }

    private static func response(_ status: HTTPResponseStatus, _ type: String, _ body: [UInt8]) -> HTTPResponse {
        var response = HTTPResponse(status, type: type, body)
        response.headers.add(name: "Cache-Control", value: "no-store")
        return response
    }
}
