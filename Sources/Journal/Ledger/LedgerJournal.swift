package import AMQP
import EditJob
import NIOConcurrencyHelpers
package import SharedValues

/// The journal that all replicas of a queue share: a stream of the broker, in which each tells the others what it submits.
///
/// A submission is let through once its `begin` was read back, since only then the order of the stream is known. An end was
/// read back, too, before it counts: the delivery is acknowledged after that.
package final class LedgerJournal: SubmissionJournal {
    /// What a ledger needs to know of the worker.
    package struct Options: Sendable {
        /// The stream, `Q.ledger`.
        package var stream: QueueDeclaration
        package var jobs: ByteString
        /// How long submissions are remembered.
        package var retention: Duration
        /// After a silence of that length a replica is gone, and what it has begun counts as abandoned.
        package var patience: Duration
        /// Between two heartbeats.
        package var heartbeat = ReplicaSilence.interval
        /// `HOST:PID`, for people.
        package var writer: String
        /// What is told to the others.
        package var greeting: LedgerGreeting
        /// Whether a stream that is missing may be declared.
        package var mayDeclare: Bool
        /// Users beside the own one whose records count.
        package var writers: [WildcardPattern] = []
        /// Whether the job queue tells of consumers as long as they hold deliveries: a quorum queue.
        package var countsHolders = true
        /// The starts of all replicas together; nil for no limit.
        package var rateLimit: RateLimit?
        /// The images of all replicas together, as a count per period; nil for no limit.
        package var budget: RateLimit?
        /// What the jobs run on, so that the records of those that are ready together go out in one message; nil for
        /// Swift's pool.
        package var executor: (any TaskExecutor)?

        package init(
            stream: QueueDeclaration,
            jobs: ByteString,
            retention: Duration,
            patience: Duration,
            writer: String,
            greeting: LedgerGreeting,
            mayDeclare: Bool
        ) {
            self.stream = stream
            self.jobs = jobs
            self.retention = retention
            self.patience = patience
            self.writer = writer
            self.greeting = greeting
            self.mayDeclare = mayDeclare
        }
    }

    /// What the ledger tells those who count.
    package protocol Observer: Sendable {
        /// Records were read, by kind.
        func read(_ kinds: [String: Int])
        /// An own message was read back so long after it was published.
        func lagged(_ lag: Duration)
        /// So many jobs are remembered.
        func remembers(_ entries: Int)
        /// So many replicas live, and so many images are left of the budget, if there is one.
        func knowsFleet(replicas: Int, imagesLeft: Int?)
        /// A newer version writes the ledger, so that this replica submits nothing any more.
        func isOutdated()
        /// Records of a user that does not count were read for the first time; `isAtStart` if this replica waits until they
        /// are over, since workers may have written them.
        func readStranger(_ user: String, isAtStart: Bool)
    }

    typealias Answered = Result<LedgerState.Answer, JournalFault>

    enum Waiter {
        case begin(id: String, CheckedContinuation<Answered, Never>)
        case written(CheckedContinuation<Void, Never>)
    }

    struct State {
        var replica: LedgerReplica
        var waiters: [LedgerReplica.Token: Waiter] = [:]
        /// When whoever waits is told that it took too long, oldest first.
        var deadlines: [(moment: ContinuousClock.Instant, token: LedgerReplica.Token)] = []
        var publisher: Publisher?
        var ready = Waiters<Void>()
        var ownMessages = OwnMessages()
        var slots: FleetSlots?
        var onFleetChange: (@Sendable (FleetChange) -> Void)?
        /// Why the gate is closed, for the others.
        var gate: (@Sendable () -> String?)?
        var silence: ReplicaSilence
        /// What the last report said of gate and pause: a change is told at once.
        var reported: (gate: String?, paused: String?)?
        var recent = RecentTaskIDs()
        /// How much of the stream was read, in percent, until all was.
        var progress = 0
        var toldKnown = false
        /// When the last message of the stream came on this connection, or it began.
        var lastCame = ContinuousClock.now
        var isClosed = false
        /// The user of the connection; nil if only the broker knows it.
        var user: String?
        /// Users whose records do not count, and were told of.
        var strangers: Set<String> = []
        /// Whether this replica could submit before: since then, strangers have no effect on it.
        var wasReady = false
        /// Until when this replica submits nothing, because workers of another user may do so.
        var strangersUntil: ContinuousClock.Instant?
        /// Whether a message was read that only a newer version can read.
        var isOutdated = false
        /// Whether `pump` is about to run.
        var isPumpDue = false

        /// Whether the ledger was read and can be written.
        var isReady: Bool { publisher != nil && replica.isUpToDate && !isOutdated && strangersUntil == nil }
    }

    /// After so long without an answer of the stream nothing is submitted.
    static let longestWait = Duration.seconds(10)

    let options: Options
    let observer: any Observer
    let startedAt = Timestamp.now.milliseconds
    let state: NIOLockedValueBox<State>
    private let expiry = NIOLockedValueBox<Task<Void, Never>?>(nil)

    /// A ledger that is not connected: see `attach`.
    package init(_ options: Options, observer: any Observer) {
        self.options = options
        self.observer = observer
        let boot = String(UInt64.random(in: .min ... .max), radix: 36)
        let retention = options.retention.wholeMilliseconds
        let budget = options.budget.map { (images: $0.count, period: $0.period.wholeMilliseconds) }
        let replica = LedgerReplica(name: boot, writer: options.writer, retention: retention, budget: budget)
        let silence = ReplicaSilence(patience: options.patience, interval: options.heartbeat)
        state = NIOLockedValueBox(
            State(replica: replica, slots: options.rateLimit.map { FleetSlots($0) }, silence: silence)
        )
    }

    /// How much of the ledger was read, in percent; nil once all was.
    package var progress: Int? { state.withLockedValue { $0.isReady ? nil : $0.progress } }

    /// Jobs that are remembered.
    package var entries: Int { state.withLockedValue { $0.replica.state.count } }

    // MARK: - The journal

    package func begin(_ request: JournalRequest) async throws(JournalFault) -> JournalAnswer {
        var hasAbandoned = false
        while true {
            // Each time: a job of somebody else is not waited for while the ledger is away.
            try await awaitLedger()
            let request = withDoubtOfTheLedger(request)
            var known = state.withLockedValue { $0.replica.answer(to: request, at: Timestamp.now.milliseconds) }
            if known.mustBeWritten {
                known = try await write(request)
                known.wasWritten = true
            }
            switch known.answer {
            case .accepted(_, let attempts, let mayBeDuplicate, _):
                // The other one, whose end came behind the record that gave it up, tells of it by itself.
                let isLate =
                    hasAbandoned && state.withLockedValue { $0.replica.state.lateHolder(of: request.id) != nil }
                guard !isLate else { return .doubtful(attempts: attempts) }
                guard let offset = known.acceptedAt else { return known.answer }
                guard let acceptance = try await acceptance(of: request.id, at: offset) else {
                    return .doubtful(attempts: attempts)
                }
                return .accepted(
                    taskID: acceptance.taskID,
                    attempts: attempts,
                    mayBeDuplicate: mayBeDuplicate,
                    at: acceptance.at
                )
            case .inFlight:
                guard let holder = known.holder, isGone(holder) else { return .inFlight }
                hasAbandoned = true
                await write(.abandon(id: request.id, offset: holder.offset))
            case .overBudget where known.wasWritten:
                // For replicas that have another budget, or none: to them it is begun.
                post(.end(id: request.id, .released))
                return .overBudget
            default:
                return known.answer
            }
        }
    }

    package func finish(_ id: String, _ verdict: JournalVerdict) async throws(JournalFault) {
        // However long it takes: until then the delivery stays unacknowledged, and the others know that it is under way.
        await write(.end(id: id, verdict), isLimited: false)
    }

    package func acknowledged(_ id: String) async throws(JournalFault) {
        post(.settled(id: id))
    }

    package func maySubmit(_ id: String) -> Bool {
        state.withLockedValue { $0.isReady && $0.replica.isSubmitting(id) }
    }

    package func mayTellLate(_ id: String) -> Bool {
        state.withLockedValue { $0.replica.state.lateHolder(of: id) == $0.replica.name }
    }

    package func sweep(before moment: Int64) async throws(JournalFault) {
        let entries = state.withLockedValue { state in
            state.replica.sweep(now: Timestamp.now.milliseconds)
            return state.replica.state.count
        }
        observer.remembers(entries)
    }

    package func waitUntilReady() async {
        while !Task.isCancelled, !state.withLockedValue({ $0.isReady || $0.isClosed }) { await waitForReady() }
    }

    /// Says goodbye to the others.
    package func close() async {
        // What `pumpSoon` has put off: after the farewell nothing is published.
        pump()
        expiry.withLockedValue { task in
            task?.cancel()
            task = nil
        }
        let (bye, waiters) = state.withLockedValue { state in
            let publisher = state.isClosed ? nil : state.publisher
            state.isClosed = true
            let bye = publisher.map { ($0, state.replica.greet([.bye], at: Timestamp.now.milliseconds)) }
            return (bye, state.ready.removeAll())
        }
        for waiter in waiters { waiter.resume() }
        // Sent when the connection is closed, and worth no waiting.
        if let (publisher, message) = bye { _ = publisher.start(outbound(message)) }
    }

    // MARK: - Waiting

    /// The request; without the doubt of a store that others do not share, unless the ledger is younger than the delivery.
    private func withDoubtOfTheLedger(_ request: JournalRequest) -> JournalRequest {
        let now = Timestamp.now.milliseconds
        let (isYoung, isOver) = state.withLockedValue { state in
            guard let until = state.replica.state.doubtsUntil else { return (false, false) }
            // What comes for the first time stands behind all that has come back (rabbit_fifo, `returns`).
            guard !request.mayBeSubmittedElsewhere, now > until, !state.toldKnown else { return (true, false) }
            state.toldKnown = true
            return (true, true)
        }
        if isOver { post(.known) }
        var request = request
        request.mayBeSubmittedElsewhere = request.mayBeSubmittedElsewhere && isYoung
        return request
    }

    /// Waits until the ledger can be asked, for as long as a job waits.
    private func awaitLedger() async throws(JournalFault) {
        guard !state.withLockedValue({ $0.isReady }) else { return }
        let deadline = ContinuousClock.now + Self.longestWait
        while !state.withLockedValue({ $0.isReady }) {
            guard !state.withLockedValue({ $0.isOutdated }) else { throw Self.outdated }
            guard .now < deadline, !Task.isCancelled, !state.withLockedValue({ $0.isClosed }) else { throw Self.silent }
            await waitForReady(until: deadline)
        }
    }

    private func waitForReady(until deadline: ContinuousClock.Instant? = nil) async {
        let ticket = state.withLockedValue { $0.ready.ticket() }
        let wake: @Sendable () -> Void = { [state] in state.withLockedValue { $0.ready.remove(ticket) }?.resume() }
        let timer = deadline.map { deadline in
            Task {
                try? await Task.sleep(until: deadline, clock: .continuous)
                wake()
            }
        }
        defer { timer?.cancel() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mustWait = state.withLockedValue { state in
                    guard !state.isReady, !state.isClosed, !Task.isCancelled else { return false }
                    state.ready.add(continuation, as: ticket)
                    return true
                }
                if !mustWait { continuation.resume() }
            }
        } onCancel: {
            wake()
        }
    }

    static let outdated = JournalFault(
        description: "a newer version writes this ledger: upgrade this replica",
        isOfLedger: true
    )

    static let silent = JournalFault(
        description: "the ledger does not answer; check the stream on the broker, and the broker's log",
        isOfLedger: true
    )

    /// Writes a `begin` and waits for the answer that the order of the stream gives it.
    private func write(_ request: JournalRequest) async throws(JournalFault) -> LedgerState.Answer {
        try await withCheckedContinuation { continuation in
            pumpSoon { state in
                let token = state.replica.write(.begin(request))
                state.waiters[token] = .begin(id: request.id, continuation)
                state.deadlines.append((.now + Self.longestWait, token))
            }
        }
        .get()
    }

    /// Writes a record soon; nobody waits for it.
    func post(_ record: LedgerRecord) {
        pumpSoon { $0.replica.write(record) }
    }

    /// Writes a record and waits until it was read back; with a limit no longer than anybody waits for the ledger.
    func write(_ record: LedgerRecord, isLimited: Bool = true) async {
        await withCheckedContinuation { continuation in
            pumpSoon { state in
                let token = state.replica.write(record)
                state.waiters[token] = .written(continuation)
                if isLimited { state.deadlines.append((.now + Self.longestWait, token)) }
            }
        }
    }

    func resume(_ events: [LedgerReplica.Event]) {
        let waiters = state.withLockedValue { state in
            events.compactMap { event -> (Waiter, LedgerState.Answer?)? in
                switch event {
                case .answered(let token, let answer): state.waiters.removeValue(forKey: token).map { ($0, answer) }
                case .written(let token): state.waiters.removeValue(forKey: token).map { ($0, nil) }
                }
            }
        }
        for (waiter, answer) in waiters {
            switch waiter {
            case .begin(_, let continuation):
                continuation.resume(returning: answer.map { .success($0) } ?? .failure(Self.silent))
            case .written(let continuation): continuation.resume()
            }
        }
    }

    /// How often is looked what has waited too long, and whether there is something to be told.
    private static let turn = Duration.milliseconds(250)

    /// Gives up, again and again, what has waited too long for the stream; ends with the ledger.
    func startExpiring() {
        expiry.withLockedValue { task in
            guard task == nil else { return }
            task = Task { [weak self] in
                while !Task.isCancelled {
                    try? await Task.sleep(for: Self.turn)
                    guard let self else { return }
                    self.expire(at: .now)
                    self.beat(at: .now)
                }
            }
        }
    }

    private func expire(at now: ContinuousClock.Instant) {
        let late = state.withLockedValue { state in
            let due = state.deadlines.prefix { $0.moment <= now }
            state.deadlines.removeFirst(due.count)
            return due.compactMap { _, token in
                let waiter = state.waiters.removeValue(forKey: token)
                if case .begin(let id, _)? = waiter { state.replica.withdraw(token, of: id) }
                return waiter
            }
        }
        guard !late.isEmpty else { return }
        for waiter in late {
            switch waiter {
            case .begin(_, let continuation): continuation.resume(returning: .failure(Self.silent))
            // It is written all the same, and who waited looks what is true then.
            case .written(let continuation): continuation.resume()
            }
        }
        pump()
    }
}
