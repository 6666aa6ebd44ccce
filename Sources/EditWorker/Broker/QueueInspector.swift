package import RabbitMQ

/// Asks whether queues are there, on a connection of its own that is opened with the first question.
///
/// A question about a direct reply-to that no broker has given out, or whose node is gone, crashes the channel in RabbitMQ
/// 3.10 and with it the connection (541): no other connection may be at risk for a text that a producer has written.
package actor QueueInspector {
    /// RabbitMQ's reply code for a fault of its own.
    private static let internalError: UInt16 = 541

    private let urls: [AMQPURL]
    private let options: AMQPConnectionOptions
    private let onChange: @Sendable (AMQPError?) -> Void
    private var connection: AMQPConnection?
    private var opening: Task<Result<AMQPConnection, AMQPError>, Never>?
    /// Why there is no connection, while it is tried again beside the jobs.
    private var fault: AMQPError?
    private var trying: Task<Void, Never>?

    /// An inspector that is not connected yet; `onChange` hears why it cannot connect, and nil once it can again.
    package init(
        urls: [AMQPURL],
        options: AMQPConnectionOptions,
        onChange: @escaping @Sendable (AMQPError?) -> Void = { _ in }
    ) {
        self.urls = urls
        self.options = options
        self.onChange = onChange
    }

    /// Whether a queue exists; for a direct reply-to, whether its requester is still there.
    ///
    /// The error says why the broker cannot be asked; no question waits until it can.
    package func exists(queue: ByteString) async throws(AMQPError) -> Bool {
        let connection = try await connected()
        do throws(AMQPError) {
            _ = try await connection.inspect(queue: queue)
            return true
        } catch {
            switch error.code {
            case .notFound: return false
            // The queue is there, but exclusive to another connection, or we may not see it.
            case .resourceLocked, .accessRefused, .preconditionFailed: return true
            default:
                if self.connection === connection { self.connection = nil }
                guard error.replyCode == Self.internalError else { throw error }
                return false
            }
        }
    }

    /// Ends the connection, if there is one.
    package func close() async {
        trying?.cancel()
        await connection?.close()
        connection = nil
    }

    private func connected() async throws(AMQPError) -> AMQPConnection {
        if let connection, connection.isOpen { return connection }
        if let fault { throw fault }
        // One attempt for all that ask.
        let attempt = opening ?? Task { await self.open() }
        opening = attempt
        let result = await attempt.value
        opening = nil
        switch result {
        case .success(let opened): return opened
        case .failure(let error):
            if fault == nil {
                fault = error
                onChange(error)
                keepTrying()
            }
            throw error
        }
    }

    private func open() async -> Result<AMQPConnection, AMQPError> {
        do throws(AMQPError) {
            let opened = try await urls.firstReached { url throws(AMQPError) in
                try await AMQPConnection.open(url, options: options)
            }
            connection = opened
            return .success(opened)
        } catch {
            return .failure(error)
        }
    }

    private func keepTrying() {
        trying = Task {
            var backoff = ReconnectBackoff()
            while !Task.isCancelled {
                try? await Task.sleep(for: max(.seconds(1), backoff.next()))
                guard !Task.isCancelled, case .success = await open() else { continue }
                fault = nil
                onChange(nil)
                return
            }
        }
    }
}
