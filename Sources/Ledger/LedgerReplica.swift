import DequeModule
import EditJob
import Journal
package import SharedValues

/// One replica's part in the ledger, and all of the protocol: it is told what happens, and says what is to be done.
///
/// A value without I/O, clocks or tasks, so that the simulation drives the very code that ships. See `LedgerEvent` and
/// `LedgerEffect`; `LedgerJournal` hands the ones in and carries the others out.
package struct LedgerReplica: Hashable, Sendable {
    /// What a replica needs to know of its worker.
    package struct Options: Hashable, Sendable {
        /// The replica's name, which no other process ever has.
        package var name: String
        /// `HOST:PID`, for people.
        package var writer: String
        /// What is told to the others.
        package var greeting: LedgerGreeting
        /// When the worker started, in milliseconds since 1970.
        package var startedAt: Int64
        /// How long submissions are remembered.
        package var retention: Duration
        /// After a silence of that length a replica is gone, and what it has begun counts as abandoned.
        package var patience: Duration
        /// Between two heartbeats.
        package var heartbeat = ReplicaSilence.interval
        /// For how long the broker lets a delivery be unacknowledged.
        package var consumerTimeout = Duration.seconds(1800)
        /// Users beside the own one whose records count.
        package var writers: [WildcardPattern] = []
        /// Whether the job queue tells of consumers as long as they hold deliveries: a quorum queue.
        package var countsHolders = true
        /// The starts of all replicas together; nil for no limit.
        package var rateLimit: RateLimit?
        /// The images of all replicas together, as a count per period; nil for no limit.
        package var budget: RateLimit?

        package init(
            name: String,
            writer: String,
            greeting: LedgerGreeting,
            startedAt: Int64,
            retention: Duration,
            patience: Duration
        ) {
            self.name = name
            self.writer = writer
            self.greeting = greeting
            self.startedAt = startedAt
            self.retention = retention
            self.patience = patience
        }
    }

    /// How far the replica is on its connection.
    enum Phase: Hashable, Sendable {
        case away
        /// The job queue is looked at.
        case inspecting
        /// The greeting is on its way to the broker.
        case greeting
        /// The greeting was not read back.
        case reading
        /// These, which the stream has lost, are written again.
        case rewriting(Set<LedgerMessage.ID>)
        /// Those that may know more are waited for, at most until then.
        case joining(Set<String>, until: ContinuousClock.Instant)
        case upToDate

        // Comparing a phase would copy its set, and with it the optimizer the whole replica.
        var isAway: Bool { if case .away = self { true } else { false } }
        var isInspecting: Bool { if case .inspecting = self { true } else { false } }
        var isGreeting: Bool { if case .greeting = self { true } else { false } }
        var isReading: Bool { if case .reading = self { true } else { false } }
        var isUpToDate: Bool { if case .upToDate = self { true } else { false } }
    }

    /// A message that is to be in the stream, and was not read there yet.
    struct Owed: Hashable, Sendable {
        let message: LedgerMessage
        /// As it was published, to recognise it when it comes back; nil if it has to be encoded for that.
        var body: [UInt8]?
        var waiters: [LedgerEvent.Waiter?] = []
        var publishedAt: ContinuousClock.Instant?
    }

    struct Pending: Hashable, Sendable {
        let record: LedgerRecord
        let waiter: LedgerEvent.Waiter?
    }

    /// Nothing is submitted after this long without an answer of the stream.
    static let longestWait = Duration.seconds(10)

    let options: Options
    /// Whether another process writes under the same name, so that another one is needed.
    var hasNamesake = false
    var name: String { options.name }

    /// What all records that were read add up to.
    package internal(set) var state: LedgerState
    var slots: FleetSlots?
    var silence: ReplicaSilence

    // MARK: The connection

    var link = 0
    var phase = Phase.away
    /// The user of the connection; nil if only the broker knows it.
    var user: String?
    /// The number of the first greeting on this connection, and when the last one was written.
    var greeting: Int64 = -1
    var greetedAt: ContinuousClock.Instant?
    /// Messages that came since the last tick.
    var readSinceTick = 0
    /// The offset of the last message that no replica ever writes again: if it still stands there, so does all before it.
    var anchor: Int64?
    /// What the reading of this connection begins with: messages that were read before, as far as they have not come again.
    var expected: Deque<LedgerMessage.Place> = []
    /// Whether one of them has come, so that those that follow must come too.
    var hasCompared = false
    /// When the reading began; nil before that, and once the last expected message was looked for.
    var readingSince: ContinuousClock.Instant?
    /// Where the reading of this stream began: of what stands before that, this replica knows nothing.
    var first: Int64?
    /// The end of what was read, of messages that do not count too.
    var end: Int64 = -1
    /// When the last message came on this connection, or it began.
    var lastCame: ContinuousClock.Instant?
    /// Whether the own report has not come back for so long that the stream seems not to answer.
    var isStalled = false
    /// What was not sent: the broker's own entries, or what was cut off just then.
    var hole: Hole?
    /// The job queue as it was when this replica came.
    var jobsAtStart = LedgerEvent.JobQueue.hidden
    /// Whether the stream is not the one that was read, and this replica has not said so yet.
    var mustTellGap = false
    /// Whether it is read anew, and what was read before is looked for in it.
    var isReadingAgain = false
    /// What was looked for and not found so far.
    var missing: Set<LedgerMessage.ID> = []
    /// How often the stream was found to be another one.
    package internal(set) var losses = 0
    /// Messages that were read.
    package internal(set) var reads = 0
    var withdrawn = WithdrawnJobs()
    /// Whether a delivery came while this replica was not covered.
    var hasTaken = false
    /// When this replica came to be covered, if it had taken deliveries before.
    var coveredSince: ContinuousClock.Instant?
    /// When the last delivery came that is in doubt.
    var lastDoubt: ContinuousClock.Instant?
    /// Whether the greeting of this connection tells a gap.
    var hasFoundGap = false
    /// Replicas that have reported since this one has greeted.
    var answered: Set<String> = []
    /// Replicas that had read the stream before it was lost.
    var gapTellers: Set<String> = []
    /// The time of the first record on this connection and of its beginning, for the progress.
    var readingFrom: Int64?
    var connectedAt: Int64 = 0
    package internal(set) var progress = 0

    // MARK: Writing

    var outbox: Deque<Pending> = []
    /// The number of the message that is published, and neither confirmed nor read back yet.
    ///
    /// One at a time: what comes meanwhile goes out together. With two or four the answers came no sooner.
    var sent: Int64?
    var owed: [Owed] = []
    /// The messages that were read last, of all replicas, oldest first: to be written again if the stream loses them.
    var kept: Deque<LedgerMessage> = []
    var keptRecords = 0
    package internal(set) var lastNumber: Int64 = -1
    var isFlushDue = false
    var isClosed = false

    // MARK: Waiting

    /// Jobs that want to be submitted.
    var wanting: [LedgerEvent.Waiter: Want] = [:]
    /// When waiters are told that it took too long, oldest first.
    var deadlines: Deque<Deadline> = []
    /// Who waits until submissions can be let through, in their order.
    var waitingForReady: [LedgerEvent.Waiter] = []
    var probing: Set<LedgerEvent.Waiter> = []
    /// The closure that this replica wanted to try last.
    var probed: LedgerMessage.ID?
    /// Jobs that this replica is submitting, with what it asked for and the message that says so.
    var submitting: [String: Submitting] = [:]

    // MARK: What may come back

    /// From those moments on nothing that was delivered before those offsets is held by anybody, oldest first.
    var samples: Deque<Sample> = []
    /// Of what was delivered before that offset nothing can come back any more, as this replica has found.
    var ownKnown: Int64?
    var nextInspection: ContinuousClock.Instant?
    /// Whether the user may not ask for the job queue, so that it is not asked again on this connection.
    var isJobQueueHidden = false
    var nextSweep: ContinuousClock.Instant?

    // MARK: Others

    /// What the last report said of gate and pause: a change is told at once.
    var reported: Reported?
    var gate: String?
    /// Whether the worker knows of pause and closure as they are, on this connection.
    var hasToldFleet = false
    var toldPause: LedgerMessage.ID?
    var toldClosure: LedgerMessage.ID?
    /// Whether another replica has greeted and wants to hear of this one.
    var mustReport = false
    /// Users whose records do not count, and were told of.
    var strangers: Set<String> = []
    /// Whether this replica could submit before: since then, strangers have no effect on it.
    var wasReady = false
    /// Until when this replica submits nothing, because workers of another user may do so.
    var strangersUntil: ContinuousClock.Instant?
    /// Where the last message stands that only a newer version can read.
    var outdatedAt: Int64?

    package init(_ options: Options) {
        self.options = options
        let budget = options.budget.map { (images: $0.count, period: $0.period.wholeMilliseconds) }
        state = LedgerState(retention: options.retention.wholeMilliseconds, budget: budget)
        slots = options.rateLimit.map { FleetSlots($0) }
        silence = ReplicaSilence(patience: options.patience, interval: options.heartbeat)
    }

    /// Whether the ledger was read and can be written, so that submissions can be let through.
    package var isReady: Bool {
        phase.isUpToDate && !isStalled && outdatedAt == nil && strangersUntil == nil && !isClosed
    }

    /// The message that was read last, in its place.
    var place: LedgerMessage.Place? { state.places.last }

    /// Whether those are waited for that may know more.
    private var isJoining: Bool { if case .joining = phase { true } else { false } }

    // MARK: - Everything that happens

    /// Takes note of an event; what is to be done about it, in that order.
    package mutating func handle(_ event: LedgerEvent, at now: LedgerMoment) -> [LedgerEffect] {
        let (wasReady, wasCovered, wasWaiting) = (isReady, isCovered, isJoining)
        var effects = react(to: event, at: now)
        if isJoining, !wasWaiting { effects.append(.awaitsOthers(atMost: options.patience)) }
        if isReady, !wasReady {
            let isFirst = !self.wasReady
            self.wasReady = true
            effects += [.tell(.ready)] + becomeReady(isFirst: isFirst, at: now)
        }
        if isCovered != wasCovered {
            // What was sent before, and was not taken yet, came while it was not covered.
            coveredSince = isCovered && hasTaken ? now.monotonic : nil
        }
        return effects + flushSoon()
    }

    private mutating func react(to event: LedgerEvent, at now: LedgerMoment) -> [LedgerEffect] {
        switch event {
        case .connected(let link, let user): return connected(link, user, at: now)
        case .named(let name): return begin(as: name, at: now)
        case .sawJobs(let jobs, let link): return link == self.link ? saw(jobs, at: now) : []
        case .saw(let id, let offset, let link): return link == self.link ? saw(id, offset, at: now) : []
        case .sawFirst(let offset, let link): return link == self.link ? sawFirst(offset, at: now) : []
        case .reads(let link):
            if link == self.link { readingSince = now.monotonic }
            return []
        case .read(let body, let user, let offset, let link):
            return link == self.link && !phase.isAway ? read(body, user, offset, at: now) : []
        case .confirmed(let number, let link): return link == self.link ? confirmed(number, at: now) : []
        case .disconnected(let link, let isSilent): return link == self.link ? disconnected(isSilent) : []
        case .flush: return flush(at: now)
        case .tick(let gate, let isBlocked): return tick(gate, isBlocked, at: now)
        case .wants(let request, let waiter): return want(request, waiter, at: now)
        case .fetched(let acceptance, let isAnswer, let waiter): return fetched(acceptance, isAnswer, waiter)
        case .writes(let record, let waiter): return write(record, waiter)
        case .waitsForReady(let waiter):
            guard !isReady, !isClosed else { return [.answer(waiter, .done)] }
            waitingForReady.append(waiter)
            return []
        case .givenUp(let waiter): return giveUp(waiter)
        case .delivered(let wasBefore): return delivered(wasBefore, at: now)
        case .wantsStart(let waiting): return wantsStart(waiting, at: now)
        case .opened: return state.fleet.closure.map { write(.opened(closure: $0.message), nil) } ?? []
        case .wantsProbe(let waiter): return wantsProbe(waiter, at: now)
        case .closes: return close(at: now)
        }
    }
}

extension LedgerReplica {
    /// A job that wants to be submitted.
    struct Want: Hashable, Sendable {
        enum Stage: Hashable, Sendable {
            /// The ledger cannot be asked for now.
            case waiting
            /// Its `begin` was not read back.
            case writing
            /// Its holder is gone, and the record that says so was not read back.
            case abandoning
            /// It only asks, and what stands in the stream by now was not read yet.
            case asking
            /// The record with its task id is read.
            case fetching(attempts: Int, mayBeDuplicate: Bool)
        }

        var request: JournalRequest
        var stage = Stage.waiting
        var deadline: ContinuousClock.Instant?
        var hasAbandoned = false
        /// Whether a record that was written after the question has come back.
        var hasRead = false
    }

    struct Submitting: Hashable, Sendable {
        let request: JournalRequest
        let begun: LedgerMessage.ID
        /// In milliseconds since 1970.
        let at: Int64
    }

    struct Deadline: Hashable, Sendable {
        let moment: ContinuousClock.Instant
        let waiter: LedgerEvent.Waiter
    }

    struct Hole: Hashable, Sendable {
        let after: Int64
        let before: Int64
    }

    struct Sample: Hashable, Sendable {
        let safeAt: ContinuousClock.Instant
        let offset: Int64
    }

    struct Reported: Hashable, Sendable {
        let isReady: Bool
        let gate: String?
        let paused: String?
    }
}
