/// What one replica tells the others at once: one message of the ledger's stream.
package struct LedgerMessage: Hashable, Sendable {
    /// The replica's name, which no other process ever has.
    package var replica: String
    /// `HOST:PID` of the replica, for people.
    package var writer: String
    /// Rises by one per message of the replica: one that was published twice is applied once.
    package var number: Int64
    /// When it was written, by the replica's clock, in milliseconds since 1970.
    package var at: Int64
    /// What it says, in this order.
    package var records: [LedgerRecord]

    package init(replica: String, writer: String, number: Int64, at: Int64, records: [LedgerRecord]) {
        self.replica = replica
        self.writer = writer
        self.number = number
        self.at = at
        self.records = records
    }
}

/// One thing that a replica tells the others.
///
/// Never a prompt, a URL or a token.
package enum LedgerRecord: Hashable, Sendable {
    /// The replica wants to submit a job; the order of the stream decides whether it may.
    indirect case begin(JournalRequest)
    /// How a submission of the replica ended.
    indirect case end(id: String, JournalVerdict)
    /// The delivery that a job was refused with is acknowledged.
    case settled(id: String)
    /// The replica that began the job at that offset is gone, and nobody knows how the submission ended.
    case abandon(id: String, offset: Int64)
    /// The replica has a connection.
    indirect case hello(LedgerGreeting)
    /// The replica ends in good order.
    case bye
    /// The stream is new: for so many seconds deliveries may come back that were submitted before there was a ledger.
    case born(doubtSeconds: Int64)
    /// All deliveries from before the ledger have come back.
    case known
    /// Of a later version; skipped.
    case unknown(kind: String)

    /// The record's name in the stream and in metrics.
    package var kind: String {
        switch self {
        case .begin: "begin"
        case .end: "end"
        case .settled: "settled"
        case .abandon: "abandon"
        case .hello: "hello"
        case .bye: "bye"
        case .born: "born"
        case .known: "known"
        case .unknown(let kind): kind
        }
    }

    /// The kinds that this version knows, for metrics.
    package static let kinds = ["begin", "end", "settled", "abandon", "hello", "bye", "born", "known", "unknown"]
}

/// What a replica says of itself.
package struct LedgerGreeting: Hashable, Sendable {
    /// The program's version.
    package var version: String
    /// Settings that all replicas should have alike, by their keys.
    package var settings: [String: String]

    package init(version: String, settings: [String: String]) {
        self.version = version
        self.settings = settings
    }
}
