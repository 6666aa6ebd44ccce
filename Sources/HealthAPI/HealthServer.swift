package import EditWorker
import HTTPServer
import JSON
package import Logging
package import NIOCore
import NIOHTTP1
package import Prometheus
import SeedreamAPI

/// Answers `/livez`, `/readyz` and `/metrics`.
package struct HealthServer: Sendable {
    /// The address cannot be listened on.
    package struct Fault: Error, CustomStringConvertible {
        /// What is wrong and what to do.
        package let description: String
    }

    private let host: String
    private let port: Int
    private let group: any EventLoopGroup
    private let registry: PrometheusRegistry
    private let lacks: @Sendable () -> [WorkerHealth.Lack]
    private let logger: Logger

    /// A server for an address, on the event loops of `group`; port 0 lets the system choose.
    package init(
        host: String,
        port: Int,
        group: any EventLoopGroup,
        registry: PrometheusRegistry,
        lacks: @escaping @Sendable () -> [WorkerHealth.Lack],
        logger: Logger
    ) {
        self.host = host
        self.port = port
        self.group = group
        self.registry = registry
        self.lacks = lacks
        self.logger = logger
    }

    /// Answers until its task is cancelled.
    ///
    /// Throws `Fault` where the address is taken or not ours.
    package func run() async throws {
        let server = HTTPServer(host: host, port: port, group: group, bounds: .init(longestBody: 0)) { answer($0) }
        do {
            try await server.run { port in
                logger.log(.info, "health and metrics", [.address: "\(host):\(port)"])
            }
        } catch let error as IOError {
            throw Fault(
                description:
                    "http.listen: cannot listen on \(host):\(port): \(NetworkFault.text(error)); give another address or port, "
                    + "or 'off'"
            )
        }
    }

    private func answer(_ request: HTTPRequest) -> HTTPResponse {
        guard request.method == .GET else { return Self.response(.methodNotAllowed, Self.text, []) }
        switch request.path {
        // Knows nothing of broker and API: a restart of this process would mend neither.
        case "/livez": return Self.response(.ok, Self.text, Array("ok\n".utf8))
        case "/readyz": return Self.readiness(lacks())
        case "/metrics": return Self.response(.ok, PrometheusRegistry.contentType, Array(registry.text.utf8))
        default: return Self.response(.notFound, Self.text, [])
        }
    }

    private static let text = "text/plain; charset=utf-8"

    private static func readiness(_ lacks: [WorkerHealth.Lack]) -> HTTPResponse {
        let missing = lacks.map { lack in
            JSONValue.object(
                [JSONMember("what", .string(lack.what))]
                    + (lack.reason.map { [JSONMember("reason", .string($0))] } ?? [])
            )
        }
        let body = JSONValue.object([
            JSONMember("ready", .boolean(lacks.isEmpty)), JSONMember("missing", .array(missing)),
        ])
        return response(lacks.isEmpty ? .ok : .serviceUnavailable, "application/json", body.encoded() + [10])
    }

    private static func response(_ status: HTTPResponseStatus, _ type: String, _ body: [UInt8]) -> HTTPResponse {
        var response = HTTPResponse(status, type: type, body)
        response.headers.add(name: "Cache-Control", value: "no-store")
        return response
    }
}
