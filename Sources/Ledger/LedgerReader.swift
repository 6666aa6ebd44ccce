import NIOConcurrencyHelpers
package import RabbitMQ

/// Reads a ledger as it stands, for people: writes nothing, and takes no part in it.
package enum LedgerReader {
    /// A stream tells only by silence that there is no more: this long after the last message that has come.
    private static let silence = Duration.milliseconds(300)
    private static let prefetch: UInt16 = 2000

    /// Calls `body` for each message from an offset to the end, in their order, with its offset, and before that `writer` with
    /// the user who wrote it.
    ///
    /// The error is `notFound` if there is no ledger. Nothing else may consume on the connection.
    package static func read(
        _ stream: ByteString,
        from start: StreamOffset = .first,
        on connection: AMQPConnection,
        isolation: isolated (any Actor)? = #isolation,
        writer: (String?) -> Void = { _ in },
        _ body: (LedgerMessage, Int64) -> Void
    ) async throws(AMQPError) {
        let consumer = try await connection.consume(from: stream, prefetch: prefetch, arguments: start.arguments)
        let lastCame = NIOLockedValueBox(ContinuousClock.now)
        // An empty stream, or one that starts later, is silent from the beginning: it has a little longer.
        let hasBegun = NIOLockedValueBox(false)
        let watch = Task {
            while !Task.isCancelled {
                try await Task.sleep(for: .milliseconds(50))
                let limit = hasBegun.withLockedValue { $0 } ? silence : silence * 4
                guard ContinuousClock.now - lastCame.withLockedValue({ $0 }) > limit else { continue }
                try await consumer.cancel()
                return
            }
        }
        defer { watch.cancel() }
        for await delivery in consumer.deliveries {
            if let offset = delivery.streamOffset, let message = try? LedgerMessage(parsing: delivery.body) {
                writer(delivery.properties.userID?.text)
                body(message, offset)
            }
            _ = delivery.acknowledge()
            lastCame.withLockedValue { $0 = .now }
            hasBegun.withLockedValue { $0 = true }
        }
        guard connection.isOpen else {
            throw AMQPError(.connectionLost, "the connection was lost while reading \(stream)")
        }
    }
}
