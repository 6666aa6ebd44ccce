import DequeModule
package import EditJob
package import Journal

/// What all records of the ledger up to an offset add up to: the same in every replica that has read as far.
///
/// A pure fold. Neither a clock nor the question who is alive is part of it, since each replica would see those at another
/// moment; who finds a replica gone writes that down, and the order of the stream decides.
/// Source: Schneider, "Implementing Fault-Tolerant Services Using the State Machine Approach" (1990).
package struct LedgerState: Hashable, Sendable {
    /// What the ledger says to a job that wants to be submitted.
    package struct Answer: Hashable, Sendable {
        /// What is known; the task id of an accepted job is empty if it has to be read at `acceptedAt`.
        package var prior: PriorSubmission
        /// Whether the job may not begin, because its images do not fit the budget.
        package var isOverBudget = false
        /// The offset of the message that has the task id.
        package var acceptedAt: Int64?
        /// The message with which another replica has begun the job, if it is running.
        package var holder: LedgerMessage.ID?
        /// Whether the answer holds only once a `begin` with the request stands in the ledger.
        package var mustBeWritten = false

        /// Whether the job does not begin because an operator has cancelled it.
        package var isCancelled = false

        /// Whether a `begin` that was answered so has begun the job.
        package var hasBegun: Bool { prior.allowsSubmission && !isOverBudget }
    }

    /// How far a job is when an order comes that it be cancelled.
    package enum Progress: Hashable, Sendable {
        /// It is not submitted now, and can be cancelled.
        case notSubmitted
        /// Its request may be on its way.
        case running
        case accepted
        /// It ended, and may have been accepted.
        case unknown
        /// It ended, and nothing was charged; another job under the same id can be cancelled.
        case refused
    }

    /// A job that has no end yet, or none that is known: kept whole.
    private struct Open: Hashable, Sendable {
        var entry: JournalEntry
        /// With which message it was begun, also after it was abandoned; nil once it is ended.
        var holder: LedgerMessage.ID?
        /// Where its last record stands.
        var offset: Int64
    }

    private let retention: Int64
    private var open: [String: Open] = [:]
    private var finished = LedgerTable()
    /// The numbers of the messages that were applied, by replica.
    private var numbers: [String: NumberSet] = [:]
    /// The last `gap`: what was said of the stream before it does not count.
    package private(set) var gap: LedgerMessage.ID?
    /// Of what was delivered before that offset nothing can come back any more; nil if it was not said since the `gap`.
    package private(set) var knownFrom: Int64?
    /// The messages that were read last, and where, oldest first.
    private(set) var places: Deque<LedgerMessage.Place> = []
    /// As far as a replica may be behind with its reading when it says what is known.
    ///
    /// More than replicas write again of a tail that was lost.
    private static let mostPlaces = 1100
    /// What is not about single jobs.
    package private(set) var fleet = FleetState()
    private var budget: FleetBudget?
    private var cancellations = Cancellations()
    /// The replicas whose acceptances came after they had been given up, by job; the last of them only.
    private var late: [String: String] = [:]
    private var lateOrder: Deque<String> = []
    private static let mostLate = 4096

    /// Nothing has been read.
    ///
    /// `sweep` forgets what is older than `retention`, in milliseconds.
    ///
    /// With a budget, at most `images` are begun within `period` milliseconds.
    package init(retention: Int64, budget: (images: Int, period: Int64)? = nil) {
        self.retention = retention
        self.budget = budget.map { FleetBudget(images: $0.images, period: $0.period) }
    }

    /// Images that count towards the budget at a moment; nil without one.
    package func budgetUsed(at now: Int64) -> Int? { budget?.used(at: fleet.clock.reading(now)) }

    /// Jobs that are remembered.
    package var count: Int { open.count + finished.count }

    /// Whether a message was applied before: after a lost confirm it is published twice.
    package func hasApplied(_ message: LedgerMessage) -> Bool {
        numbers[message.replica]?.contains(message.number) == true
    }

    /// The answer that a request would get now; nothing changes.
    package func answer(to request: JournalRequest, by replica: String, at now: Int64) -> Answer {
        decide(request, by: replica, at: now).answer
    }

    /// The replica that told of an acceptance after it had been given up; nil if the end came in time, or long ago.
    ///
    /// Who took the job then has told that its outcome is unknown.
    package func lateHolder(of id: String) -> String? { late[id] }

    /// Whether a job is being submitted by the replica that has begun it with that message.
    package func isHeld(_ id: String, by holder: LedgerMessage.ID) -> Bool {
        guard let open = open[id], case .begun(let owner) = open.entry.state else { return false }
        return open.holder == holder && !owner.isEmpty
    }

    /// The messages that say which orders to cancel stand.
    var standingOrders: [LedgerMessage] { cancellations.messages }

    /// Whether an operator has cancelled a job, unless it is replayed.
    package func isCancelled(_ id: String) -> Bool { cancellations.contains(id) }

    /// How far a job is; of one that is not known it is assumed that it waits.
    package func progress(of id: String) -> Progress {
        func ended(_ failure: JobFailure) -> Progress { failure.charged == .no ? .refused : .unknown }
        switch open[id]?.entry.state {
        case .begun(owner: ""): return .unknown
        case .begun: return .running
        case .accepted: return .accepted
        case .retrying: return .notSubmitted
        case .failed(let failure), .refused(let failure): return ended(failure)
        case nil: break
        }
        switch finished[id]?.state {
        case .accepted: return .accepted
        case .failed, .refused: return .refused
        case nil: return .notSubmitted
        }
    }

    /// Applies a message; the answers to its `begin` records, in their order.
    package mutating func apply(_ message: LedgerMessage, at offset: Int64) -> [Answer] {
        defer {
            places.append(LedgerMessage.Place(message.id, at: offset))
            if places.count > Self.mostPlaces { places.removeFirst() }
        }
        guard !hasApplied(message) else { return [] }
        numbers[message.replica, default: NumberSet()].insert(message.number)
        if let move = fleet.heard(from: message) { budget?.follow(move) }
        var answers: [Answer] = []
        for record in message.records {
            fleet.apply(record, of: message)
            switch record {
            case .begin(let request): answers.append(begin(request, by: message.id, at: message.at, offset))
            case .end(let id, let end): self.end(id, end, by: message.replica, at: message.at, offset)
            case .settled(let id): settled(id, at: message.at)
            case .abandon(let id, let begun): abandon(id, begun)
            case .cancel(let jobs, let reason):
                for job in jobs where mayBeCancelled(job) { cancellations.cancel(job, reason, by: message, at: offset) }
            case .lift(let jobs): for job in jobs { cancellations.lift(job.id, for: job.digest) }
            case .withdrawn(let id, let replay): cancellations.met(id, replay: replay)
            case .gap: (gap, knownFrom) = (message.id, nil)
            case .known(let from, let gap, let read): learn(from, since: gap, inStreamWith: read)
            case .alive(let report):
                if let from = report.known { learn(from, since: report.gap, inStreamWith: report.read) }
            case .hello, .bye, .slots, .closed, .probe, .opened, .pause, .resume, .followed, .unknown: break
            }
        }
        return answers
    }

    /// Whether a message that its writer had read stands where the writer says, not long before the end of what was read.
    ///
    /// What was on its way when the stream was deleted and made again gets into the new one, and speaks of the old.
    package func stands(_ place: LedgerMessage.Place?) -> Bool {
        guard let place else { return false }
        return places.last { $0.offset <= place.offset } == place
    }

    /// The stream is another one: its offsets begin anew.
    package mutating func forgetPlaces() { places = [] }

    /// Notes where a message stands that was applied before: in a stream that is made again it is another place.
    package mutating func found(_ message: LedgerMessage, at offset: Int64) {
        for record in message.records {
            guard case .end(let id, let end) = record, case .accepted = end.verdict, finished[id]?.state == .accepted
            else {
                continue
            }
            finished[id]?.offset = offset
        }
    }

    /// Forgets what is older than the retention, if the stream, whose oldest message is the one at `first`, does not have its
    /// record any more.
    ///
    /// Neither alone: a clock may be wrong, and a policy may cut the stream.
    package mutating func sweep(now: Int64, first: Int64) {
        let (oldest, isTooSmall) = now.subtractingReportingOverflow(retention)
        guard !isTooSmall else { return }
        open = open.filter { $0.value.offset >= first || $0.value.entry.changedAt >= oldest }
        finished.removeAll(before: first, changedBefore: oldest / 1000)
        cancellations.sweep(first: first, oldest: oldest)
    }

    // MARK: - The records

    private mutating func learn(
        _ from: Int64,
        since gap: LedgerMessage.ID?,
        inStreamWith read: LedgerMessage.Place?
    ) {
        guard gap == self.gap, stands(read) else { return }
        knownFrom = max(knownFrom ?? from, from)
    }

    private func decide(
        _ request: JournalRequest,
        by replica: String,
        at now: Int64
    ) -> (answer: Answer, write: JournalEntry?) {
        var entry: JournalEntry?
        var row: LedgerTable.Row?
        if let open = open[request.id] {
            entry = open.entry
        } else if let found = finished[request.id] {
            row = found
            entry = JournalEntry(found, comparedWith: request.digest)
        }
        var (prior, write) = JournalEntry.prior(
            to: request,
            given: entry,
            by: replica,
            now: now,
            isAlive: { !$0.isEmpty }
        )
        if let ended = cancellations.verdict(on: request, insteadOf: prior, isNew: write?.isFinished == true) {
            if prior.allowsSubmission { write = nil }
            prior = ended
            // Only what is read back stands behind an order that has lifted it.
            return (Answer(prior: prior, mustBeWritten: !request.isQuestion, isCancelled: true), write)
        }
        var answer = Answer(prior: prior)
        switch prior {
        case .never, .possible:
            let used = budget?.used(at: fleet.clock.reading(now)) ?? 0
            answer.isOverBudget = !request.isQuestion && budget.map { used + request.images > $0.images } ?? false
            answer.mustBeWritten = write != nil && !answer.isOverBudget
        case .running: answer.holder = open[request.id]?.holder
        case .withdrawn: break
        case .ended(.accepted, _, _): answer.acceptedAt = row?.offset
        case .ended: answer.mustBeWritten = write != nil
        }
        return (answer, write)
    }

    private mutating func begin(
        _ request: JournalRequest,
        by holder: LedgerMessage.ID,
        at now: Int64,
        _ offset: Int64
    ) -> Answer {
        let (answer, write) = decide(request, by: holder.replica, at: now)
        if answer.isCancelled { cancellations.met(request.id, replay: request.replay) }
        if answer.hasBegun { cancellations.begun(request) }
        if let write {
            // One that is over the budget here may not be for its writer, who takes it back if it is: it has begun.
            if !write.isFinished, !answer.isOverBudget {
                budget?.begin(request.id, request.images, at: fleet.clock.reading(now))
            }
            finished[request.id] = nil
            late[request.id] = nil
            open[request.id] = Open(entry: write, holder: write.isFinished ? nil : holder, offset: offset)
        }
        return answer
    }

    /// Only of who began it; an end that comes after the job was abandoned is the truth, late.
    private mutating func end(
        _ id: String,
        _ end: JobEnd,
        by replica: String,
        at now: Int64,
        _ offset: Int64
    ) {
        guard let begun = open[id], begun.holder?.replica == replica, case .begun = begun.entry.state else { return }
        budget?.end(id, isFree: end.isFree)
        if case .accepted = end.verdict, case .begun(owner: "") = begun.entry.state { noteLate(id, replica) }
        guard let entry = begun.entry.after(end, now: now) else {
            open[id] = nil
            return
        }
        switch end.verdict {
        // It came too late, and no other publication is submitted either: what a person makes of it is another matter.
        case .accepted, .unknown: cancellations.forget(id)
        case .refused, .retry, .givenBack: break
        }
        if let row = LedgerTable.Row(entry, at: offset), row.isPackable {
            finished[id] = row
            open[id] = nil
        } else {
            open[id] = Open(entry: entry, offset: offset)
        }
    }

    private mutating func noteLate(_ id: String, _ replica: String) {
        late[id] = replica
        lateOrder.append(id)
        guard lateOrder.count > Self.mostLate, let oldest = lateOrder.popFirst(), !lateOrder.contains(oldest) else {
            return
        }
        late[oldest] = nil
    }

    private mutating func settled(_ id: String, at now: Int64) {
        if var row = finished[id], row.state == .failed {
            row.state = .refused
            row.changedAt = now / 1000
            // A moment that no row can hold is a record's mistake, and the refusal stays as it was.
            if row.isPackable { finished[id] = row }
        } else if let failed = open[id], let entry = failed.entry.afterAcknowledgement(now: now) {
            open[id] = Open(entry: entry, offset: failed.offset)
        }
    }

    /// Not a job that has an end for which it may have been charged, unless a replay of it was seen to wait: a person decides on
    /// its next one.
    private func mayBeCancelled(_ job: CancelledJob) -> Bool {
        if job.replay != nil { return true }
        if case .begun? = open[job.id]?.entry.state { return true }
        switch progress(of: job.id) {
        case .notSubmitted, .running, .refused: return true
        case .accepted, .unknown: return false
        }
    }

    private mutating func abandon(_ id: String, _ holder: LedgerMessage.ID) {
        guard let begun = open[id], begun.holder == holder, case .begun = begun.entry.state else { return }
        // Without an owner: then the rules take it for one whose worker is gone.
        open[id]?.entry.state = .begun(owner: "")
    }
}

extension JournalEntry {
    /// The entry of a finished job; its digest is the request's if what is left of it is the same.
    fileprivate init(_ row: LedgerTable.Row, comparedWith digest: BodyDigest) {
        let isSame = row.digest == UInt64(truncatingIfNeeded: digest.value)
        let failure = JobFailure.remembered(row.code ?? .outcomeUnknown, charged: .no, status: row.httpStatus)
        let state: State =
            switch row.state {
            case .accepted: .accepted(taskID: "")
            case .failed: .failed(failure)
            case .refused: .refused(failure)
            }
        self.init(
            digest: isSame ? digest : BodyDigest(value: ~digest.value),
            state: state,
            attempts: row.attempts,
            replay: row.replay,
            mayBeDuplicate: row.mayBeDuplicate,
            changedAt: row.changedAt * 1000
        )
    }
}

extension LedgerTable.Row {
    /// Of an entry whose end is certain; nil of any other.
    fileprivate init?(_ entry: JournalEntry, at offset: Int64) {
        let state: State
        var code: JobFailure.Code?
        var status: Int?
        switch entry.state {
        case .accepted: state = .accepted
        case .failed(let failure) where failure.charged == .no:
            state = .failed
            code = failure.code
            status = failure.httpStatus
        case .begun, .failed, .retrying, .refused: return nil
        }
        self.init(
            digest: UInt64(truncatingIfNeeded: entry.digest.value),
            offset: offset,
            attempts: entry.attempts,
            replay: entry.replay,
            state: state,
            mayBeDuplicate: entry.mayBeDuplicate,
            code: code,
            httpStatus: status,
            changedAt: entry.changedAt / 1000
        )
    }
}

extension JobEnd {
    /// Whether it is certain that nothing was charged.
    fileprivate var isFree: Bool {
        switch verdict {
        case .refused: true
        case .retry, .givenBack: !mayBeDuplicate
        case .accepted, .unknown: false
        }
    }
}
