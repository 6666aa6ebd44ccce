package import AMQP
import EditJob
import Journal

/// What a person tells all replicas, through the ledger.
package enum FleetOrder: Hashable, Sendable {
    /// Submit nothing any more.
    case pause(reason: String)
    case resume

    private var record: LedgerRecord {
        switch self {
        case .pause(let reason): .pause(reason: reason)
        case .resume: .resume
        }
    }

    /// Gives the order; it stands when this returns.
    ///
    /// `writer` says who gives it. The error is `notFound` if there is no ledger.
    package func give(
        by writer: String,
        in stream: ByteString,
        on connection: AMQPConnection
    ) async throws(AMQPError) {
        let message = LedgerMessage(
            replica: "operator-\(String(UInt64.random(in: .min ... .max), radix: 36))",
            writer: writer,
            number: 0,
            at: Timestamp.now.milliseconds,
            records: [record]
        )
        var properties = MessageProperties()
        properties.contentType = "application/json"
        properties.deliveryMode = 2
        properties.type = "seedream.ledger"
        properties.appID = "seedream-worker"
        let publisher = try await connection.makePublisher()
        let outbound = OutboundMessage(routingKey: stream, properties: properties, body: message.encoded)
        switch try await publisher.publish(outbound) {
        case .confirmed: return
        case .returned: throw AMQPError(.notFound, "there is no ledger \(stream)")
        case .refused: throw AMQPError(.closedByBroker, "the broker refuses records for the ledger \(stream)")
        }
    }
}
