package import AMQP
package import SharedValues

/// The queues that the service needs, with their arguments.
///
/// Source: RabbitMQ's "Quorum Queues", "Dead Letter Exchanges" (at-least-once), "Time-To-Live".
package struct Topology: Sendable {
    /// Returns of a job before the broker dead-letters it: a job that kills its workers comes to an end.
    private static let deliveryLimit: Int64 = 20

    /// The queues' names.
    package let queues: JobQueues
    /// The kind of all queues.
    package let type: QueueType
    /// Who makes them.
    package let mode: TopologyMode

    /// A topology.
    package init(queues: JobQueues, type: QueueType, mode: TopologyMode) {
        self.queues = queues
        self.type = type
        self.mode = mode
    }

    /// The declarations of all queues, those first into which others dead-letter.
    ///
    /// `brokerMajor` is the broker's major version. From 4 on a queue without `x-delivery-limit` has one of 20, and
    /// looking at a dead letter 20 times would drop it; 3.10 takes -1 and then drops at the first return.
    package func declarations(brokerMajor: Int) -> [QueueDeclaration] {
        let unlimited: FieldTable = type == .quorum && brokerMajor >= 4 ? ["x-delivery-limit": .int64(-1)] : [:]
        return [
            declaration(queues.results),
            declaration(queues.deadLetters, unlimited),
            declaration(queues.unknown, unlimited),
            declaration(queues.jobs, deadLettering(to: queues.deadLetters, limit: Self.deliveryLimit)),
        ]
            + queues.retries.map { retry in
                var arguments = deadLettering(to: queues.jobs, limit: nil)
                arguments["x-message-ttl"] = .int64(retry.delay.wholeMilliseconds)
                return declaration(retry.name, arguments)
            }
    }

    private func deadLettering(to target: ByteString, limit: Int64?) -> FieldTable {
        var arguments: FieldTable = [
            "x-dead-letter-exchange": .text(""),
            "x-dead-letter-routing-key": .string(target),
            "x-overflow": .text("reject-publish"),
        ]
        guard type == .quorum else { return arguments }
        arguments["x-dead-letter-strategy"] = .text("at-least-once")
        arguments["x-delivery-limit"] = limit.map { .int64($0) }
        return arguments
    }

    private func declaration(_ name: ByteString, _ arguments: FieldTable = [:]) -> QueueDeclaration {
        var arguments = arguments
        arguments["x-queue-type"] = .text(type.rawValue)
        return QueueDeclaration(name: name, arguments: arguments)
    }

    /// Declares all queues, or verifies that they are there.
    package func establish(on connection: AMQPConnection) async throws(AMQPError) {
        for declaration in declarations(brokerMajor: await connection.brokerMajorVersion) {
            switch mode {
            case .declare: _ = try await connection.declare(declaration)
            case .verify: try await verify(declaration.name, on: connection)
            }
        }
    }

    /// Looks whether a queue is there.
    ///
    /// RabbitMQ 4.2.6 and 4.3.0 let only those look who may configure it, later versions those who have any right on the
    /// queue itself. To whom the broker does not say, it need not be there either; a message that then comes back is told.
    /// The job queue cannot be missed: it is consumed from. Source: rabbitmq-server, pull requests 16085 and 16272.
    private func verify(_ queue: ByteString, on connection: AMQPConnection) async throws(AMQPError) {
        do throws(AMQPError) {
            _ = try await connection.inspect(queue: queue)
        } catch {
            guard error.code == .accessRefused else { throw error }
        }
    }
}
