import Ledger
package import RabbitMQ

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

    /// Gives the order; it stands when this returns.
    ///
    /// `writer` says who gives it. Throws `OperatorRecords.NotHeard` if a replica that lives takes no orders of this user; the order
    /// stands all the same if others do. Otherwise `AMQPError`, `notFound` if there is no ledger.
    package func give(
        by writer: String,
        in stream: ByteString,
        on connection: AMQPConnection
    ) async throws {
        var records = try await OperatorRecords(by: writer, in: stream, on: connection)
        try await records.write([record(for: records.fleet)])
        if let fault = records.fault { throw fault }
    }
}
