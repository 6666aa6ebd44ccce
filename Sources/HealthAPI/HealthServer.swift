package import EditWorker
import HTTPTypes
import Hummingbird
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
        let router = Router(context: BasicRequestContext.self)
        // Knows nothing of broker and API: a restart of this process would mend neither.
        router.get("/livez") { _, _ in Self.response(.ok, "text/plain; charset=utf-8", Array("ok\n".utf8)) }
        router.get("/readyz") { _, _ in Self.readiness(lacks()) }
        router.get("/metrics") { _, _ in
            Self.response(.ok, PrometheusRegistry.contentType, Array(registry.text.utf8))
        }
        var quiet = Logger(label: "health", factory: { _ in SwiftLogNoOpLogHandler() })
        quiet.logLevel = .critical
        let application = Application(
            router: router,
            configuration: .init(address: .hostname(host, port: port), serverName: nil),
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? port
                logger.log(.info, "health and metrics", [.address: "\(host):\(port)"])
            },
            eventLoopGroupProvider: .shared(group),
            logger: quiet
        )
        do {
            try await application.run()
        } catch let error as IOError {
            throw Fault(
                description: "http.listen: cannot listen on \(host):\(port): \(error); give another address or port, "
                    + "or 'off'"
            )
        }
    }

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
