package import AMQP

/// Asks whether queues are there, on a connection of its own that is opened with the first question.
///
/// A question about a direct reply-to that no broker has given out, or whose node is gone, crashes the channel in RabbitMQ
/// 3.10 and with it the connection (541): no other connection may be at risk for a text that a producer has written.
package actor QueueInspector {
    /// RabbitMQ's reply code for a fault of its own.
    private static let internalError: UInt16 = 541

    private let urls: [AMQPURL]
    private let options: AMQPConnectionOptions
    private var connection: AMQPConnection?

    /// An inspector that is not connected yet.
    package init(urls: [AMQPURL], options: AMQPConnectionOptions) {
        self.urls = urls
        self.options = options
    }

    /// Whether a queue exists; for a direct reply-to, whether its requester is still there.
    ///
    /// The error says why the broker cannot be asked.
    package func exists(queue: ByteString) async throws(AMQPError) -> Bool {
        let connection = try await connected()
        do throws(AMQPError) {
            _ = try await connection.inspect(queue: queue)
            return true
        } catch {
            switch error.code {
            case .notFound: return false
            // The queue is there, but somebody's alone, or not for us to see.
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
        await connection?.close()
        connection = nil
    }

    private func connected() async throws(AMQPError) -> AMQPConnection {
        if let connection, connection.isOpen { return connection }
        var failure = AMQPError(.closed, "there is no broker to ask")
        for url in urls {
            do throws(AMQPError) {
                let opened = try await AMQPConnection.open(url, options: options)
                // Somebody else may have been quicker while this one waited.
                if let connection, connection.isOpen {
                    await opened.close()
                    return connection
                }
                connection = opened
                return opened
            } catch {
                failure = error
            }
        }
        throw failure
    }
}
