package import Ledger
package import RabbitMQ
import SharedValues

/// What a person writes into the ledger, for all replicas.
package struct OperatorRecords {
    /// The replicas take no orders of this user.
    package struct NotHeard: Error, CustomStringConvertible {
        package let user: String
        /// `HOST:PID` of those that do not.
        package let replicas: [String]

        package var description: String {
            "orders of the broker user \(user) do not count for \(replicas.joined(separator: ", ")): "
                + "add it to journal.writers of the workers, or give the order with the workers' own URL"
        }
    }

    /// The name under which they are written; no other process has it.
    package let name = "operator-\(String(UInt64.random(in: .min ... .max), radix: 36))"
    /// The fleet before the first of them.
    package let fleet: FleetView
    /// Those that take no orders of this user, though others do; to be thrown once all is written.
    package let fault: NotHeard?
    /// Messages that were written.
    package private(set) var count: Int64 = 0
    private let writer: String
    private let stream: ByteString
    private let user: String
    private let publisher: Publisher

    /// Begins to write; `writer` says who that is.
    ///
    /// Throws `NotHeard` if no replica that lives would take the orders: they would have their effect later, once the user counts;
    /// or, with `allMustHear`, if one would not. Otherwise `AMQPError`, `notFound` if there is no ledger.
    package init(
        by writer: String,
        in stream: ByteString,
        on connection: AMQPConnection,
        allMustHear: Bool = false
    ) async throws {
        self.writer = writer
        self.stream = stream
        user = try await connection.userName()
        fleet = try await FleetView.read(stream, on: connection)
        let deaf = fleet.replicas.filter { [user] in !$0.hears(user) }
        fault = deaf.isEmpty ? nil : NotHeard(user: user, replicas: deaf.map(\.writer))
        if let fault, allMustHear || deaf.count == fleet.replicas.count { throw fault }
        publisher = try await connection.makePublisher()
    }

    /// Writes some records in one message; they stand in the ledger when this returns.
    ///
    /// Throws `AMQPError`.
    package mutating func write(
        _ records: [LedgerRecord],
        isolation: isolated (any Actor)? = #isolation
    ) async throws(AMQPError) {
        let message = LedgerMessage(
            replica: name,
            writer: writer,
            number: count,
            at: Timestamp.now.milliseconds,
            records: records
        )
        var properties = MessageProperties()
        properties.contentType = "application/json"
        properties.deliveryMode = 2
        properties.type = "seedream.ledger"
        properties.appID = "seedream-worker"
        properties.userID = ByteString(user)
        let outbound = OutboundMessage(routingKey: stream, properties: properties, body: message.encoded)
        switch try await publisher.publish(outbound) {
        case .confirmed: count += 1
        case .returned: throw AMQPError(.notFound, "there is no ledger \(stream)")
        case .refused: throw AMQPError(.closedByBroker, "the broker refuses records for the ledger \(stream)")
        }
    }
}
