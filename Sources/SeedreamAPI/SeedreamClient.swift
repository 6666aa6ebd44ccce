package import NIOCore
import NIOHTTP1

/// Sends submissions to the API over kept-alive HTTP/1.1 connections, each exactly once.
///
/// Never follows a redirect and never sends a request again by itself; a test against a server that reads the request and
/// hangs up keeps it so. Source: RFC 9110, RFC 9112.
package struct SeedreamClient: Sendable {
    /// How to reach the API.
    package struct Options: Sendable {
        /// `scheme://host[:port][/path]`, without a trailing slash.
        package var baseURL: String
        /// One submission, from start to last byte.
        package var timeout: Duration = .seconds(60)
        /// TCP and TLS together.
        package var connectTimeout: Duration = .seconds(5)
        /// Most requests at once, each on a connection of its own.
        package var connections: Int
        /// PEM file with the trust roots, nil for the system's.
        package var caFile: String?
        /// Sent as `seedream-worker/VERSION`.
        package var version: String

        /// Options with the defaults of the timeouts.
        package init(baseURL: String, connections: Int, version: String) {
            self.baseURL = baseURL
            self.connections = connections
            self.version = version
        }
    }

    /// The path of the one operation.
    package static let path = "/v1/generate/k/seedream-v4-edit"

    private let endpoint: APIEndpoint
    private let options: Options
    private let loop: any EventLoop
    private let pool: NIOLoopBoundBox<HTTPConnectionPool>
    /// The fields that every request has.
    private let fields: HTTPHeaders

    /// The base URL is none.
    package struct InvalidURL: Error, CustomStringConvertible {
        /// What is wrong and what to do.
        package let description = "api.baseUrl is no http or https URL; set SEEDREAM_API_BASE_URL"
    }

    /// A client on one of the group's loops, which the caller owns.
    ///
    /// Throws `InvalidURL`, or NIOSSL's error where the CA file cannot be read.
    package init(_ options: Options, group: any EventLoopGroup) throws {
        guard let endpoint = APIEndpoint(options.baseURL) else { throw InvalidURL() }
        let connector = try EndpointConnector(endpoint, caFile: options.caFile, timeout: options.connectTimeout)
        let loop = group.next()
        pool = NIOLoopBoundBox.makeBoxSendingValue(
            HTTPConnectionPool(connector, on: loop, limit: options.connections),
            eventLoop: loop
        )
        self.endpoint = endpoint
        self.options = options
        self.loop = loop
        fields = [
            "Host": endpoint.hostField,
            "Content-Type": "application/json",
            "Accept": "application/json",
            // A content delivery network answers 403 to clients without one.
            "User-Agent": "seedream-worker/\(options.version)",
        ]
    }

    /// Closes all connections; requests in flight end as cancelled.
    package func shutdown() async throws {
        try await loop.flatSubmit { pool.value.shutdown() }.get()
    }

    /// Sends one submission, at most once, and tells what was seen of it.
    package func submit(_ submission: SubmissionRequest) async -> SubmissionSighting {
        guard let head = head(for: submission) else { return .failed(.notConnected) }
        let exchange = NIOLoopBoundBox.makeBoxSendingValue(
            SubmissionExchange(
                head,
                body: ByteBuffer(bytes: submission.body),
                deadline: .now() + TimeAmount(options.timeout)
            ),
            eventLoop: loop
        )
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                onLoop {
                    exchange.value.answer = { continuation.resume(returning: $0) }
                    pool.value.submit(exchange.value)
                }
            }
        } onCancel: {
            // Never at once: the submission may be just about to begin.
            loop.execute { pool.value.cancel(exchange.value) }
        }
    }

    private func onLoop(_ body: @escaping @Sendable () -> Void) {
        if loop.inEventLoop { body() } else { loop.execute(body) }
    }

    /// The request's line and fields; nil where the token cannot be a field's value.
    private func head(for submission: SubmissionRequest) -> HTTPRequestHead? {
        guard submission.token.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { return nil }
        var fields = fields
        fields.add(name: "Authorization", value: "Bearer \(submission.token)")
        fields.add(name: "Content-Length", value: String(submission.body.count))
        fields.add(name: "Idempotency-Key", value: submission.idempotencyKey)
        if let traceparent = submission.traceparent {
            fields.add(name: "traceparent", value: traceparent)
        }
        if let tracestate = submission.tracestate {
            fields.add(name: "tracestate", value: tracestate)
        }
        return HTTPRequestHead(version: .http1_1, method: .POST, uri: endpoint.path + Self.path, headers: fields)
    }
}

extension TimeAmount {
    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        self = .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}
