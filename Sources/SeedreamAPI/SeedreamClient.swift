package import NIOCore
package import SharedValues

/// Sends submissions to the API over kept-alive HTTP/1.1 connections, each exactly once.
///
/// Never follows a redirect and never sends a request again by itself; a test against a server that reads the request and
/// hangs up keeps it so. Source: RFC 9110, RFC 9112.
package final class SeedreamClient: Sendable {
    /// How to reach the API.
    package struct Options: Sendable {
        /// `scheme://host[:port][/path]`, without a trailing slash.
        package var baseURL: String
        /// One submission, from start to last byte.
        package var timeout: Duration = .seconds(60)
        /// TCP and TLS together.
        package var connectTimeout: Duration = .seconds(5)
        /// How long a connection is kept without a request.
        ///
        /// Shorter than any server's: a connection that the server is closing loses the request that is sent on it, and
        /// such a request may have been executed.
        package var idleTimeout: Duration = .seconds(3)
        /// Most requests at once, each on a connection of its own.
        package var connections: Int
        /// PEM file with the trust roots, nil for the system's.
        package var caFile: String?
        /// The HTTP proxy that all connections go through, nil for none.
        package var proxy: ProxyAddress?
        /// What the client calls itself, such as `seedream-worker/1.0`.
        package var userAgent: String

        /// Options with the defaults of the timeouts.
        package init(baseURL: String, connections: Int, userAgent: String) {
            self.baseURL = baseURL
            self.connections = connections
            self.userAgent = userAgent
        }
    }

    /// The path of the one operation.
    package static let path = "/v1/generate/k/seedream-v4-edit"

    /// Below which a task's status is.
    package static let tasksPath = "/v1/tasks"

    private let encoder: RequestEncoder
    private let options: Options
    private let loop: any EventLoop
    private let pool: NIOLoopBoundBox<HTTPConnectionPool>

    /// The base URL is not one.
    package struct InvalidURL: Error, CustomStringConvertible {
        /// What is wrong and what to do.
        package let description = "the base URL of the API is not an http or https URL"
    }

    /// A client on one of the group's loops, which the caller owns.
    ///
    /// Throws `InvalidURL`, or NIOSSL's error where the CA file cannot be read.
    package init(_ options: Options, group: any EventLoopGroup) throws {
        guard let endpoint = APIEndpoint(options.baseURL) else { throw InvalidURL() }
        let connector = try EndpointConnector(
            endpoint,
            caFile: options.caFile,
            proxy: options.proxy,
            timeout: options.connectTimeout
        )
        let loop = group.next()
        pool = NIOLoopBoundBox.makeBoxSendingValue(
            HTTPConnectionPool(
                connector,
                on: loop,
                limit: options.connections,
                idleTimeout: TimeAmount(options.idleTimeout)
            ),
            eventLoop: loop
        )
        self.options = options
        self.loop = loop
        encoder = RequestEncoder(endpoint, path: Self.path, userAgent: options.userAgent)
    }

    /// Closes all connections; requests in flight end as cancelled.
    package func shutdown() async throws {
        try await loop.flatSubmit { [pool] in pool.value.shutdown() }.get()
    }

    /// Waits for a connection and keeps it for one submission.
    package func reserve() async -> Reservation {
        let exchange = exchange(ByteBuffer())
        let failure: TransportFailure? = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                onLoop { [pool] in
                    let resume: (TransportFailure?) -> Void = { failure in
                        // Once: what becomes of it later is told to whoever sends the request.
                        (exchange.value.onConnected, exchange.value.answer) = (nil, nil)
                        continuation.resume(returning: failure)
                    }
                    exchange.value.onConnected = { resume(nil) }
                    exchange.value.answer = { result in
                        if case .failed(let reason) = result { resume(reason) }
                    }
                    pool.value.submit(exchange.value)
                }
            }
        } onCancel: {
            loop.execute { [pool] in pool.value.cancel(exchange.value) }
        }
        if let failure { return Reservation(failure: failure) }
        return Reservation(exchange, in: pool, on: loop)
    }

    /// Sends one submission, at most once, and tells what was seen of it.
    package func submit(
        _ submission: consuming SubmissionRequest,
        over reservation: consuming Reservation = Reservation()
    ) async -> SubmissionResult {
        if let failure = reservation.failure { return .failed(failure) }
        guard let request = encoder.encode(consume submission) else { return .failed(.notConnected) }
        guard let reserved = reservation.exchange else { return await run(exchange(request)) }
        return await run(reserved) { [deadline = NIODeadline.now() + TimeAmount(options.timeout)] pool, exchange in
            exchange.prepare(request, deadline: deadline)
            pool.begin(exchange)
        }
    }

    /// Asks for the status of a task, which costs nothing, and tells what was seen.
    package func look(atTask taskID: String, token: String) async -> SubmissionResult {
        guard let request = encoder.encodeLook(atTask: taskID, token: token) else { return .failed(.notConnected) }
        return await run(exchange(request))
    }

    private func run(
        _ exchange: NIOLoopBoundBox<SubmissionExchange>,
        _ begin: @escaping @Sendable (HTTPConnectionPool, SubmissionExchange) -> Void = { $0.submit($1) }
    ) async -> SubmissionResult {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                onLoop { [pool] in
                    exchange.value.answer = { continuation.resume(returning: $0) }
                    begin(pool.value, exchange.value)
                }
            }
        } onCancel: {
            // Never at once: the submission may be just about to begin.
            loop.execute { [pool] in pool.value.cancel(exchange.value) }
        }
    }

    private func exchange(_ request: ByteBuffer) -> NIOLoopBoundBox<SubmissionExchange> {
        NIOLoopBoundBox.makeBoxSendingValue(
            SubmissionExchange(request, deadline: .now() + TimeAmount(options.timeout)),
            eventLoop: loop
        )
    }

    private func onLoop(_ body: @escaping @Sendable () -> Void) {
        if loop.inEventLoop { body() } else { loop.execute(body) }
    }
}

extension TimeAmount {
    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        self = .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}
