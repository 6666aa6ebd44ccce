package import AMQP

/// The queue that each replica alone holds as long as it has its connection, so that the others can see whether it lives.
///
/// The broker removes an exclusive queue with its connection, whatever way that ends; no clock is involved.
/// Source: RabbitMQ's "Queues", "Exclusive Queues".
package enum SignOfLife {
    /// What a replica declares.
    package static func queue(of replica: String, in stream: ByteString) -> QueueDeclaration {
        QueueDeclaration(name: ByteString("\(stream).\(replica)"), durable: false, exclusive: true)
    }

    /// Whether a replica has its connection; nil if the broker does not say.
    package static func isSeen(
        of replica: String,
        in stream: ByteString,
        on connection: AMQPConnection
    ) async -> Bool? {
        do throws(AMQPError) {
            _ = try await connection.inspect(queue: queue(of: replica, in: stream).name)
            return true
        } catch {
            switch error.code {
            case .notFound: return false
            // Another connection's, or not for us to see: it is there.
            case .resourceLocked, .accessRefused: return true
            default: return nil
            }
        }
    }
}
