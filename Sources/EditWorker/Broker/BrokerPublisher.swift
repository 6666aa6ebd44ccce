package import Logging
package import RabbitMQ
import Telemetry

/// Where the pipeline's messages go: confirmed by the broker, or known not to be.
package protocol MessagePublisher: Sendable {
    /// Publishes until the broker has confirmed, returned or repeatedly refused the message, over lost connections too.
    ///
    /// Throws `CancellationError` where the worker ends first, and `StaleDelivery` where the delivery that the message is for
    /// is gone first; the message may or may not have arrived.
    func publish(_ message: OutboundMessage, for delivery: Delivery?) async throws -> PublishResult
    /// Whether a queue exists; for a direct reply-to, whether its requester is still there. Nil if the broker cannot be asked.
    func exists(queue: ByteString) async throws -> Bool?
    /// Makes the service's queues again, after a message to one of them came back.
    func restoreTopology() async throws
    /// The largest header frame that the connection takes, in bytes.
    var frameMax: Int { get async throws }
}

/// The connection that a delivery came from is gone: the broker gives the job to another worker.
package struct StaleDelivery: Error {
    package init() {}
}

/// Publishes over the publisher link, and declares over the consumer's: a broker that blocks publishers reads nothing from
/// them, so that a question on their connection would never be answered.
package struct BrokerPublisher: MessagePublisher {
    /// With the backoff about ten seconds: a queue that is full for longer is meant to be.
    private static let mostRefusals = 5

    private let publisher: BrokerLink<Publisher>
    private let consumer: BrokerLink<AMQPConnection>
    private let inspector: QueueInspector
    private let topology: Topology
    private let health: WorkerHealth
    private let logger: Logger

    /// Publishes over `publisher` and declares over `consumer`; `topology` is what `restoreTopology` restores.
    package init(
        publisher: BrokerLink<Publisher>,
        consumer: BrokerLink<AMQPConnection>,
        inspector: QueueInspector,
        topology: Topology,
        health: WorkerHealth,
        logger: Logger
    ) {
        self.health = health
        self.inspector = inspector
        self.publisher = publisher
        self.consumer = consumer
        self.topology = topology
        self.logger = logger
    }

    package func publish(_ message: OutboundMessage, for delivery: Delivery?) async throws -> PublishResult {
        var backoff = ReconnectBackoff()
        var refusals = 0
        defer { if refusals > 0 { health.note(missing: Self.missing(message.routingKey), nil) } }
        while true {
            let session = try await Self.session(of: publisher)
            // Once there is one: what waits for a connection may be told by another worker meanwhile.
            guard delivery?.isLive ?? true else { throw StaleDelivery() }
            let result: PublishResult
            do throws(AMQPError) {
                result = try await session.publish(message)
            } catch {
                guard error.code != .tooLarge else { throw error }
                // The link has logged it; whether the message arrived is not known, so it is published again.
                try await Task.sleep(for: .milliseconds(50))
                continue
            }
            switch result {
            case .confirmed: return result
            case .returned:
                if isOwn(message.routingKey) {
                    logger.log(.warning, "a queue of the service is missing", [.queue: message.routingKey.text])
                }
                return result
            case .refused:
                logger.log(.warning, "the broker refused a message", [.queue: message.routingKey.text])
                refusals += 1
                if isOwn(message.routingKey) {
                    health.note(missing: Self.missing(message.routingKey), "the broker refuses messages")
                }
                guard refusals < Self.mostRefusals else {
                    await publisher.renew(session)
                    return result
                }
                try await Task.sleep(for: backoff.next())
                // Our own queues are not full: then it is the channel, and not the queue, that refuses.
                if refusals > 1, isOwn(message.routingKey) { await publisher.renew(session) }
            }
        }
    }

    private func isOwn(_ queue: ByteString) -> Bool {
        queue == topology.queues.results || topology.queues.isOwn(queue)
    }

    private static func missing(_ queue: ByteString) -> String { "queue \(queue.text)" }

    package func exists(queue: ByteString) async throws -> Bool? {
        // Only where there is a broker: it waits for one, and hears of the worker's end.
        _ = try await Self.session(of: consumer)
        // Why not, the inspector has told.
        return try? await inspector.exists(queue: queue)
    }

    package func restoreTopology() async throws {
        let connection = try await Self.session(of: consumer)
        do throws(AMQPError) {
            try await topology.establish(on: connection)
        } catch {
            logger.log(.error, "cannot declare the queues", [.error: error.message, .remedy: error.remedy])
            try await Task.sleep(for: .seconds(1))
        }
    }

    package var frameMax: Int {
        get async throws { try await Self.session(of: publisher).frameMax }
    }

    private static func session<Session>(of link: BrokerLink<Session>) async throws -> Session {
        if let session = link.current { return session }
        guard let session = await link.session() else { throw CancellationError() }
        return session
    }
}
