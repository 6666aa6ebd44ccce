import AsyncHTTPClient
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
package import NIOPosix
import NIOSSL

/// Sends submissions to the API over kept-alive HTTP/1.1 connections, each exactly once.
///
/// Never follows a redirect and never sends a request again by itself: AsyncHTTPClient re-sends nothing once it has
/// handed a request to a connection, and a test against a server that reads the request and hangs up keeps it so.
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

    private let http: HTTPClient
    private let options: Options

    /// A client on event loops that the caller owns.
    ///
    /// Throws where the CA file cannot be read.
    package init(_ options: Options, group: MultiThreadedEventLoopGroup) throws {
        var configuration = HTTPClient.Configuration()
        if let caFile = options.caFile {
            var tls = TLSConfiguration.makeClientConfiguration()
            tls.trustRoots = .file(caFile)
            configuration.tlsConfiguration = tls
        }
        configuration.redirectConfiguration = .disallow
        configuration.httpVersion = .http1Only
        configuration.timeout.connect = TimeAmount(options.connectTimeout)
        // Shorter than any server's: a connection that the server is closing loses the request that is sent on it,
        // and such a request may have been executed.
        configuration.connectionPool.idleTimeout = .seconds(3)
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = options.connections
        // The gate decides when to try again.
        configuration.connectionPool.retryConnectionEstablishment = false
        http = HTTPClient(eventLoopGroup: group, configuration: configuration)
        self.options = options
    }

    /// Closes all connections; requests in flight end as cancelled.
    package func shutdown() async throws {
        try await http.shutdown()
    }

    /// Sends one submission, at most once, and tells what was seen of it.
    package func submit(_ submission: SubmissionRequest) async -> SubmissionSighting {
        guard let request = request(for: submission) else { return .failed(.notConnected) }
        let witness = SubmissionWitness()
        let task = http.execute(
            request: request,
            delegate: witness,
            deadline: .now() + TimeAmount(options.timeout)
        )
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                task.futureResult.whenComplete { result in
                    switch result {
                    case .success(let sighting): continuation.resume(returning: sighting)
                    case .failure(let error): continuation.resume(returning: witness.sighting(after: error))
                    }
                }
            }
        } onCancel: {
            task.fail(reason: HTTPClientError.cancelled)
        }
    }

    private func request(for submission: SubmissionRequest) -> HTTPClient.Request? {
        var headers = HTTPHeaders([
            ("Authorization", "Bearer \(submission.token)"),
            ("Content-Type", "application/json"),
            ("Content-Length", String(submission.body.count)),
            ("Accept", "application/json"),
            // A content delivery network answers 403 to clients without one.
            ("User-Agent", "seedream-worker/\(options.version)"),
            ("Idempotency-Key", submission.idempotencyKey),
        ])
        if let traceparent = submission.traceparent {
            headers.add(name: "traceparent", value: traceparent)
        }
        if let tracestate = submission.tracestate {
            headers.add(name: "tracestate", value: tracestate)
        }
        return try? HTTPClient.Request(
            url: options.baseURL + Self.path,
            method: .POST,
            headers: headers,
            body: .byteBuffer(ByteBuffer(bytes: submission.body))
        )
    }
}

extension TimeAmount {
    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        self = .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}
