package import EditWorker
import HTTPTypes
import HummingbirdCore
import JSON
package import Logging
package import NIOCore
package import Prometheus
import ServiceLifecycle

/// Answers `/livez`, `/readyz` and `/metrics`.
package struct HealthServer: Service, CustomStringConvertible {
    /// The address cannot be listened on.
    package struct Fault: Error, CustomStringConvertible {
        /// What is wrong and what to do.
        package let description: String
    }

    /// For the logs of the service group.
    package let description = "health server"

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

    /// Answers until the graceful shutdown.
    ///
    /// Throws `Fault` where the address is taken or not ours.
    package func run() async throws {
        var quiet = Logger(label: "health", factory: { _ in SwiftLogNoOpLogHandler() })
        quiet.logLevel = .critical
        let server = Server(
            childChannelSetup: HTTP1Channel { request, writer, _ in
                let response = answer(request)
                try await writer.write(response: response.head, body: response.body)
            },
            configuration: .init(address: .hostname(host, port: port)),
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? port
                logger.log(.info, "health and metrics", [.address: "\(host):\(port)"])
            },
            eventLoopGroup: group,
            logger: quiet
        )
        do {
            try await server.run()
        } catch let error as IOError {
            throw Fault(
                description: "http.listen: cannot listen on \(host):\(port): \(error); give another address or port, "
                    + "or 'off'"
            )
        }
    }

    private func answer(_ request: Request) -> Response {
        guard request.method == .get else { return Self.response(.methodNotAllowed, Self.text, []) }
        switch request.uri.path {
        // Knows nothing of broker and API: a restart of this process would mend neither.
        case "/livez": return Self.response(.ok, Self.text, Array("ok\n".utf8))
        case "/readyz": return Self.readiness(lacks())
        case "/metrics": return Self.response(.ok, PrometheusRegistry.contentType, Array(registry.text.utf8))
        default: return Self.response(.notFound, Self.text, [])
        }
    }

    private static let text = "text/plain; charset=utf-8"

    private static func readiness(_ lacks: [WorkerHealth.Lack]) -> Response {
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

    private static func response(_ status: HTTPResponse.Status, _ type: String, _ body: [UInt8]) -> Response {
        Response(
            status: status,
            headers: [.contentType: type, .cacheControl: "no-store"],
            body: .init(byteBuffer: ByteBuffer(bytes: body))
        )
    }
}
