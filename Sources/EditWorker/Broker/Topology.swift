package import RabbitMQ
package import SharedValues

/// The queues that the service needs, with their arguments.
///
/// Source: RabbitMQ's "Quorum Queues", "Dead Letter Exchanges" (at-least-once), "Time-To-Live".
package struct Topology: Sendable {
    /// A stream drops whole segments only: small ones, so that it keeps little more than its age.
    ///
    /// At two submissions per second one holds about three hours.
    private static let ledgerSegment: Int64 = 8_000_000

    /// Returns of a job before the broker dead-letters it: a job that kills its workers comes to an end.
    private static let deliveryLimit: Int64 = 20

    package let queues: JobQueues
    /// The kind of all queues.
    package let type: QueueType
    package let mode: TopologyMode
    /// How long the ledger keeps its records; nil if there is none.
    package let ledgerRetention: Duration?
    /// Where producers publish their jobs: with a right on it alone they can write to no queue of ours but `Q`.
    package let exchange: ExchangeDeclaration

    /// `exchange` is the name of the producers' exchange; by default that of the job queue.
    package init(
        queues: JobQueues,
        type: QueueType,
        mode: TopologyMode,
        ledgerRetention: Duration? = nil,
        exchange: ByteString? = nil
    ) {
        self.exchange = ExchangeDeclaration(name: exchange ?? queues.jobs)
        self.queues = queues
        self.type = type
        self.mode = mode
        self.ledgerRetention = ledgerRetention
    }

    /// The ledger's stream, if there is one.
    package var ledger: QueueDeclaration? {
        ledgerRetention.map { retention in
            // Whole seconds, and at least one: the broker knows no less.
            let seconds = max(1, retention.components.seconds)
            return QueueDeclaration(
                name: queues.ledger,
                arguments: [
                    "x-queue-type": .text("stream"), "x-max-age": .text("\(seconds)s"),
                    "x-stream-max-segment-size-bytes": .int64(Self.ledgerSegment),
                ]
            )
        }
    }

    /// The declarations of all queues, those first into which others dead-letter.
    ///
    /// `brokerMajor` is the broker's major version. From 4 on a queue without `x-delivery-limit` has one of 20, and
    /// looking at a dead letter 20 times would drop it; 3.10 takes -1 and then drops at the first return.
    package func declarations(brokerMajor: Int) -> [QueueDeclaration] {
        let unlimited: FieldTable = type == .quorum && brokerMajor >= 4 ? ["x-delivery-limit": .int64(-1)] : [:]
        var all = [
            declaration(queues.results, unlimited), declaration(queues.deadLetters, unlimited),
            declaration(queues.unknown, unlimited),
            declaration(queues.undelivered, deadLettering(to: queues.deadLetters, limit: nil).adding(unlimited)),
            declaration(queues.jobs, deadLettering(to: queues.undelivered, limit: Self.deliveryLimit)),
        ]
        all += queues.retries.map { waiting($0, for: queues.jobs) }
        if !queues.followWaits.isEmpty {
            let arguments = deadLettering(to: queues.deadLetters, limit: nil).adding(unlimited)
            all.append(declaration(queues.follow, arguments))
            all += queues.followWaits.map { waiting($0, for: queues.follow) }
        }
        return all + (ledger.map { [$0] } ?? [])
    }

    private func waiting(_ queue: JobQueues.RetryQueue, for target: ByteString) -> QueueDeclaration {
        var arguments = deadLettering(to: target, limit: nil)
        arguments["x-message-ttl"] = .int64(queue.delay.wholeMilliseconds)
        return declaration(queue.name, arguments)
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

    /// Brings what producers publish to the exchange to the job queue.
    package var binding: Binding {
        Binding(exchange: exchange.name, queue: queues.jobs, routingKey: queues.jobs)
    }

    /// Declares all queues and the exchange, or verifies that they are there.
    ///
    /// A worker takes jobs without the exchange too, and need not have the right to make it.
    package func establish(on connection: AMQPConnection, needsExchange: Bool = false) async throws(AMQPError) {
        try await establishQueues(on: connection)
        do throws(AMQPError) {
            switch mode {
            case .declare: try await open(on: connection)
            case .verify: if needsExchange { try await connection.inspect(exchange: exchange.name) }
            }
        } catch {
            let isRefusal = error.code == .accessRefused || error.code == .preconditionFailed
            guard isRefusal, !needsExchange else { throw error }
        }
    }

    /// Makes the exchange, which is not left without its queue: it would swallow jobs.
    private func open(on connection: AMQPConnection) async throws(AMQPError) {
        var isNew = false
        do throws(AMQPError) { try await connection.inspect(exchange: exchange.name) } catch {
            isNew = error.code == .notFound
        }
        var mismatch: AMQPError?
        do throws(AMQPError) { try await connection.declare(exchange) } catch {
            guard error.code == .preconditionFailed else { throw error }
            mismatch = error
        }
        do throws(AMQPError) { try await connection.bind(binding) } catch {
            if isNew { try? await connection.deleteUnused(exchange: exchange.name) }
            throw error
        }
        if let mismatch { throw mismatch }
    }

    private func establishQueues(on connection: AMQPConnection) async throws(AMQPError) {
        var missing: [ByteString] = []
        for declaration in declarations(brokerMajor: await connection.brokerMajorVersion) {
            switch mode {
            case .declare: _ = try await connection.declare(declaration)
            case .verify: if try await !isThere(declaration.name, on: connection) { missing.append(declaration.name) }
            }
        }
        guard !missing.isEmpty else { return }
        throw AMQPError(.notFound, "there is " + missing.map { "no queue '\($0)'" }.joined(separator: ", "))
    }

    /// Looks whether a queue is there.
    ///
    /// RabbitMQ 4.2.6 and 4.3.0 let only those look who may configure it, later versions those who have any right on the
    /// queue itself. To whom the broker does not say, it need not be there either; a message that then comes back is told.
    /// The job queue cannot be missed: it is consumed from. Source: rabbitmq-server, pull requests 16085 and 16272.
    private func isThere(_ queue: ByteString, on connection: AMQPConnection) async throws(AMQPError) -> Bool {
        do throws(AMQPError) {
            _ = try await connection.inspect(queue: queue)
            return true
        } catch {
            switch error.code {
            case .notFound: return false
            case .accessRefused: return true
            default: throw error
            }
        }
    }
}

extension FieldTable {
    fileprivate func adding(_ other: FieldTable) -> FieldTable {
        other.entries.reduce(into: self) { $0[$1.name] = $1.value }
    }
}
