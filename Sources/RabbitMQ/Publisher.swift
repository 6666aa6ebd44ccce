import NIOConcurrencyHelpers

/// Publishes on a connection whose channel confirms.
///
/// From any thread. It ends with its connection; a class, so that two can be told apart.
package final class Publisher: Sendable {
    /// The connection that it publishes on.
    package let connection: AMQPConnection
    /// The largest header frame that the broker takes, in bytes.
    package let frameMax: Int

    init(_ connection: AMQPConnection, frameMax: Int) {
        self.connection = connection
        self.frameMax = frameMax
    }

    /// Publishes a message and waits for what the broker says of it, at most for the options' `confirmTimeout`.
    ///
    /// After an error the message may or may not have arrived.
    package func publish(_ message: OutboundMessage) async throws(AMQPError) -> PublishResult {
        try await withCheckedContinuation { continuation in
            enqueue(message) { continuation.resume(returning: $0) }
        }
        .get()
    }

    /// As `publish`, without waiting: messages go out in the order of the calls.
    package func start(_ message: OutboundMessage) -> PendingConfirm {
        let pending = PendingConfirm()
        enqueue(message) { pending.resolve($0) }
        return pending
    }

    /// As `publish`; `onResult` is called on the connection's thread, or at once if the connection has ended.
    package func enqueue(
        _ message: OutboundMessage,
        onResult: @escaping @Sendable (Result<PublishResult, AMQPError>) -> Void
    ) {
        if !connection.post(.publish(Publishing(message, onResult))) {
            onResult(.failure(AMQPConnection.closedError))
        }
    }
}

/// What the broker says of a message, once it does.
package final class PendingConfirm: Sendable {
    private struct State {
        var result: Result<PublishResult, AMQPError>?
        var waiter: CheckedContinuation<Result<PublishResult, AMQPError>, Never>?
    }

    private let state = NIOLockedValueBox(State())

    func resolve(_ result: Result<PublishResult, AMQPError>) {
        let waiter = state.withLockedValue { state in
            state.result = result
            return state.waiter.take()
        }
        waiter?.resume(returning: result)
    }

    /// Waits for it, cancelled or not: the message is on its way.
    ///
    /// For one caller at a time.
    package var result: PublishResult {
        get async throws(AMQPError) {
            try await withCheckedContinuation { continuation in
                let known = state.withLockedValue { state in
                    if state.result == nil { state.waiter = continuation }
                    return state.result
                }
                if let known { continuation.resume(returning: known) }
            }
            .get()
        }
    }
}
