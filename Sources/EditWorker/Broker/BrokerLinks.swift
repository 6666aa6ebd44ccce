package import RabbitMQ

/// The worker's connections to the broker: apart, so that a broker that blocks publishers never stops acknowledgements.
package struct BrokerLinks: Sendable {
    /// For the jobs, and for questions about queues.
    package let consumer: BrokerLink<AMQPConnection>
    /// For replies, dead letters and retries.
    package let publisher: BrokerLink<Publisher>
    /// For what the replicas share; nil if the journal is another.
    package let ledger: BrokerLink<AMQPConnection>?

    package init(
        consumer: BrokerLink<AMQPConnection>,
        publisher: BrokerLink<Publisher>,
        ledger: BrokerLink<AMQPConnection>? = nil
    ) {
        self.consumer = consumer
        self.publisher = publisher
        self.ledger = ledger
    }

    /// Keeps all connected until `stop`; with `failFast` the first failure before the first connection is thrown.
    func run(failFast: Bool) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await consumer.run(failFast: failFast, onOpen: hurry) }
            group.addTask { try await publisher.run(failFast: failFast, onOpen: hurry) }
            if let ledger { group.addTask { try await ledger.run(failFast: failFast, onOpen: hurry) } }
            // Not `waitForAll`, which hears of a failure only once all have ended.
            while try await group.next() != nil {}
        }
    }

    /// The broker can be reached again there: none of the others waits any longer.
    private func hurry(to url: AMQPURL) {
        Task {
            await consumer.hurry(to: url)
            await publisher.hurry(to: url)
            await ledger?.hurry(to: url)
        }
    }

    /// Closes the connections, that of the ledger last.
    func stop() async {
        await consumer.stop()
        await publisher.stop()
        await ledger?.stop()
    }

    /// Takes another node for the jobs; the ledger's own link does so by itself.
    package func leaveNode() async {
        await consumer.leaveNode()
        await publisher.leaveNode()
    }

    /// Ends the waiting for a first connection: no more jobs are taken.
    func release() async {
        await consumer.release()
        await publisher.releaseBeforeFirst()
    }
}
