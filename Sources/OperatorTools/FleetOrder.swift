import Ledger
package import RabbitMQ
import SharedValues

/// What a person tells all replicas, through the ledger.
package enum FleetOrder: Hashable, Sendable {
    /// Submit nothing any more.
    case pause(reason: String)
    case resume

    /// The order as it is written; it ends the pause that was seen, and none that is ordered meanwhile.
    private func record(for fleet: FleetView) -> LedgerRecord {
        switch self {
        case .pause(let reason): .pause(reason: reason)
        case .resume: .resume(pause: fleet.pausedBy)
        }
    }

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

    /// Gives the order; it stands when this returns.
    ///
    /// `writer` says who gives it. Throws `NotHeard` if a replica that lives takes no orders of this user; the order stands all
    /// the same if others do. Otherwise `AMQPError`, `notFound` if there is no ledger.
    package func give(
        by writer: String,
        in stream: ByteString,
        on connection: AMQPConnection
    ) async throws {
        let user = try await connection.userName()
        let fleet = try await FleetView.read(stream, on: connection)
        let replicas = fleet.replicas
        let deaf = replicas.filter { !$0.hears(user) }
        let fault = deaf.isEmpty ? nil : NotHeard(user: user, replicas: deaf.map(\.writer))
        // It would have its effect later, once the user counts.
        if let fault, deaf.count == replicas.count { throw fault }
        let message = LedgerMessage(
            replica: "operator-\(String(UInt64.random(in: .min ... .max), radix: 36))",
            writer: writer,
            number: 0,
            at: Timestamp.now.milliseconds,
            records: [record(for: fleet)]
        )
        var properties = MessageProperties()
        properties.contentType = "application/json"
        properties.deliveryMode = 2
        properties.type = "seedream.ledger"
        properties.appID = "seedream-worker"
        properties.userID = ByteString(user)
        let publisher = try await connection.makePublisher()
        let outbound = OutboundMessage(routingKey: stream, properties: properties, body: message.encoded)
        switch try await publisher.publish(outbound) {
        case .confirmed: break
        case .returned: throw AMQPError(.notFound, "there is no ledger \(stream)")
        case .refused: throw AMQPError(.closedByBroker, "the broker refuses records for the ledger \(stream)")
        }
        if let fault { throw fault }
    }
}
