import NIOCore

/// A connection that is kept for one submission, so that the submission starts the moment it may; given back when dropped.
///
/// An empty one promises nothing: the submission then waits for a connection after its start.
package struct Reservation: ~Copyable, Sendable {
    /// Why there is no connection; nothing was sent.
    package let failure: TransportFailure?
    let exchange: NIOLoopBoundBox<SubmissionExchange>?
    private let loop: (any EventLoop)?
    private let pool: NIOLoopBoundBox<HTTPConnectionPool>?

    /// Without a connection, and why if one was wanted.
    package init(failure: TransportFailure? = nil) {
        self.failure = failure
        (exchange, loop, pool) = (nil, nil, nil)
    }

    init(
        _ exchange: NIOLoopBoundBox<SubmissionExchange>,
        in pool: NIOLoopBoundBox<HTTPConnectionPool>,
        on loop: any EventLoop
    ) {
        failure = nil
        self.exchange = exchange
        self.loop = loop
        self.pool = pool
    }

    /// Whether the connection can still be used; also if none was wanted.
    package func isUsable() async -> Bool {
        guard let loop, let pool, let exchange else { return true }
        return (try? await loop.submit { pool.value.mayBegin(exchange.value) }.get()) ?? false
    }

    deinit {
        guard let loop, let pool, let exchange else { return }
        loop.execute { pool.value.release(exchange.value) }
    }
}
