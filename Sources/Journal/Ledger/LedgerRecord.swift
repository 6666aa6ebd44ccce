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
    /// For so many seconds deliveries may come back that were submitted before there was this ledger.
    ///
    /// With `ifFirst` it counts only if it is the first in a stream that is known from its beginning.
    case born(doubtSeconds: Int64, ifFirst: Bool = false)
    /// All deliveries from before the ledger have come back.
    case known
    /// The replica wants so many starts under the fleet's rate limit.
    case slots(Int)
    /// The replica's gate has closed for a reason of the account, for so many milliseconds.
    case closed(reason: String, milliseconds: Int64, isHeld: Bool)
    /// The replica wants to be the one that tries whether the reason of that closure is gone; `after` is the record of the
    /// one that tried and was not heard of.
    case probe(closure: Int64, after: Int64?)
    /// The reason of that closure is gone.
    case opened(closure: Int64)
    /// Somebody wants no more submissions.
    case pause(reason: String)
    /// Submissions may go on.
    case resume
    /// The replica lives; every ten seconds, and when its gate changes.
    indirect case alive(LedgerReport)
    /// The task of an accepted job was followed to its end: to its images, or why there are none.
    case followed(id: String, taskID: String, code: String?)
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
        case .slots: "slots"
        case .closed: "closed"
        case .probe: "probe"
        case .opened: "opened"
        case .pause: "pause"
        case .resume: "resume"
        case .alive: "alive"
        case .followed: "followed"
        case .unknown(let kind): kind
        }
    }

    /// The kinds that this version knows, for metrics.
    package static let kinds = [
        "begin", "end", "settled", "abandon", "hello", "bye", "born", "known", "slots", "closed", "probe", "opened",
        "pause", "resume", "alive", "followed", "unknown", "stranger",
    ]
}

/// What a replica says of itself.
package struct LedgerGreeting: Hashable, Sendable {
    package var version: String
    /// Settings that all replicas should have alike, by their keys.
    package var settings: [String: String]

    package init(version: String, settings: [String: String]) {
        self.version = version
        self.settings = settings
    }
}

/// What a replica says of itself from time to time, for people.
package struct LedgerReport: Hashable, Sendable {
    package var version: String
    /// When it started, in milliseconds since 1970.
    package var since: Int64
    package var inFlight: Int
    /// Why its gate is closed; nil while it is open.
    package var gate: String?
    /// Why the fleet is paused, as far as it knows; nil if it is not.
    package var paused: String?
    /// Starts of the fleet within the last period, and the limit such as `20/10s`.
    package var rate: Share?
    /// Images of the fleet within the budget's time, and the budget such as `500/24h`.
    package var budget: Share?

    /// How much of a limit is used.
    package struct Share: Hashable, Sendable {
        package var used: Int
        package var limit: String

        package init(used: Int, limit: String) {
            self.used = used
            self.limit = limit
        }
    }

    package init(version: String, since: Int64, inFlight: Int) {
        self.version = version
        self.since = since
        self.inFlight = inFlight
    }
}
