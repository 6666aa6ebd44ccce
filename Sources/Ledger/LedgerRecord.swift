package import EditJob
package import Journal

/// What one replica tells the others at once: one message of the ledger's stream.
package struct LedgerMessage: Hashable, Sendable {
    /// By what a message is known: its offset is another one in a stream that is made again.
    package struct ID: Hashable, Sendable {
        package let replica: String
        package let number: Int64

        package init(replica: String, number: Int64) {
            self.replica = replica
            self.number = number
        }
    }

    /// Where a message stands in a stream: another one that is made under the same name has another message there.
    package struct Place: Hashable, Sendable {
        package let message: ID
        package let offset: Int64

        package init(_ message: ID, at offset: Int64) {
            self.message = message
            self.offset = offset
        }
    }

    /// The replica's name, which no other process ever has.
    package var replica: String
    /// `HOST:PID` of the replica, for people.
    package var writer: String
    /// Rises by one per message of the replica: one that was published twice is applied once.
    package var number: Int64
    package var id: ID { ID(replica: replica, number: number) }
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
    indirect case end(id: String, JobEnd)
    /// The delivery that a job was refused with is acknowledged.
    case settled(id: String)
    /// The replica that began the job with that message is gone, and how the submission ended is unknown.
    case abandon(id: String, begun: LedgerMessage.ID)
    /// The broker has taken the job out of its queue: what was delivered before this is read does not begin any more.
    ///
    /// `replay` is which replay of the job that was.
    case withdrawn(id: String, replay: Int64)
    /// An operator does not want these jobs to be submitted.
    case cancel([CancelledJob], reason: String)
    /// These jobs, with that content, may be submitted after all.
    case lift([LiftedJob])
    /// The replica has a connection.
    indirect case hello(LedgerGreeting)
    /// The replica ends in good order.
    case bye
    /// The stream is not the one that the replica read, or has lost messages: submissions may stand nowhere in it.
    case gap
    /// Of what was delivered before that offset nothing can come back any more; said of the stream that has the message `read`
    /// at its place, as it is since that `gap`.
    case known(from: Int64, gap: LedgerMessage.ID?, read: LedgerMessage.Place?)
    /// The replica wants this many starts under the fleet's rate limit.
    case slots(Int)
    /// The replica's gate has closed for a reason of the account, for a time in milliseconds.
    case closed(reason: String, milliseconds: Int64, isHeld: Bool)
    /// The replica wants to be the one that tries whether the reason of that closure is gone; `after` is the record of the
    /// one that tried and was not heard of.
    case probe(closure: LedgerMessage.ID, after: LedgerMessage.ID?)
    /// The reason of that closure is gone.
    case opened(closure: LedgerMessage.ID)
    /// An operator wants no more submissions.
    case pause(reason: String)
    /// Submissions may go on; ends that pause only, or with nil any.
    case resume(pause: LedgerMessage.ID?)
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
        case .withdrawn: "withdrawn"
        case .cancel: "cancel"
        case .lift: "lift"
        case .hello: "hello"
        case .bye: "bye"
        case .gap: "gap"
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
        "begin", "end", "settled", "abandon", "withdrawn", "cancel", "lift", "hello", "bye", "gap", "known", "slots",
        "closed", "probe", "opened",
        "pause", "resume", "alive", "followed", "unknown", "stranger",
    ]
}

/// A job that may be submitted in spite of an order to cancel it.
package struct LiftedJob: Hashable, Sendable {
    package let id: String
    /// What would be submitted.
    package let digest: BodyDigest

    package init(id: String, digest: BodyDigest) {
        self.id = id
        self.digest = digest
    }
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
    /// The message that has paused it.
    package var pause: LedgerMessage.ID?
    /// Before that offset, in the stream as it is since `gap`, nothing was delivered that can come back; nil if it cannot say.
    package var known: Int64?
    package var gap: LedgerMessage.ID?
    /// The message that the replica has read last.
    package var read: LedgerMessage.Place?
    /// The broker user of the replica; nil if it does not know.
    package var user: String?
    /// Users beside that one whose records count, as `journal.writers` says.
    package var writers: String?
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
