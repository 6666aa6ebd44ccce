package import AMQP

/// Publishes many jobs with confirms, so many at a time that the broker and not the round trip is the limit.
///
/// Confirms are told in the order of publishing: where it ends early, `settled` jobs are known to be on the queue, and
/// of those after them nothing is.
package final class JobPublisher {
    /// Enough to keep a quorum queue's disk busy.
    private static let mostInFlight = 1024

    /// A job that the broker does not have.
    package enum Fault: Hashable, Sendable {
        /// There is no such queue.
        case noQueue
        /// The queue takes no more.
        case refused
    }

    /// The jobs that were answered, taken or not, in their order.
    package private(set) var settled = 0
    private let connection: AMQPConnection
    private let onSettled: (ByteString, Fault?) -> Void
    private var inFlight: [(id: ByteString, publish: Task<PublishResult, any Error>)] = []

    /// A publisher on a connection in confirm mode; `onSettled` is told of each job.
    package init(_ connection: AMQPConnection, onSettled: @escaping (_ id: ByteString, _ fault: Fault?) -> Void) {
        self.connection = connection
        self.onSettled = onSettled
    }

    /// Publishes a job; waits only where too many are on their way.
    ///
    /// Throws `AMQPError`.
    package func publish(
        _ message: OutboundMessage,
        isolation: isolated (any Actor)? = #isolation
    ) async throws {
        let id = message.properties.messageID ?? ""
        inFlight.append((id, connection.startPublishing(message)))
        if inFlight.count >= Self.mostInFlight { try await settle(Self.mostInFlight / 2) }
    }

    /// Waits until all are answered.
    ///
    /// Throws `AMQPError`.
    package func finish(isolation: isolated (any Actor)? = #isolation) async throws {
        try await settle(inFlight.count)
    }

    private func settle(_ number: Int, isolation: isolated (any Actor)? = #isolation) async throws {
        let oldest = inFlight.prefix(number)
        inFlight.removeFirst(number)
        for (id, publish) in oldest {
            switch try await publish.value {
            case .confirmed: onSettled(id, nil)
            case .returned: onSettled(id, .noQueue)
            case .refused: onSettled(id, .refused)
            }
            settled += 1
        }
    }
}
