import DequeModule
import EditJob

/// What all records of the ledger up to an offset add up to: the same in every replica that has read as far.
///
/// A pure fold. No clock and no question whether somebody lives is part of it, since each replica would see those at another
/// moment; who finds a replica gone writes that down, and the order of the stream decides.
/// Source: Schneider, "Implementing Fault-Tolerant Services Using the State Machine Approach" (1990).
package struct LedgerState: Sendable {
    /// What the ledger says to a job that wants to be submitted.
    package struct Answer: Hashable, Sendable {
        /// The answer; the task id of an accepted job is empty if it has to be read at `acceptedAt`.
        package var answer: JournalAnswer
        /// The offset of the message that has the task id.
        package var acceptedAt: Int64?
        /// Who is submitting the job, and the offset of the record that says so, if the answer is `inFlight`.
        package var holder: Holder?
        /// Whether the answer holds only once a `begin` with the request stands in the ledger.
        package var mustBeWritten = false
        /// Whether it is the answer to a `begin` that stands in the ledger.
        var wasWritten = false
    }

    /// A replica that is submitting a job.
    package struct Holder: Hashable, Sendable {
        package let replica: String
        package let offset: Int64

        package init(replica: String, offset: Int64) {
            self.replica = replica
            self.offset = offset
        }
    }

    /// A job that has no end yet, or none that is known: kept whole.
    private struct Open: Sendable {
        var entry: JournalEntry
        /// Who began it, also after it was abandoned; nil once it is ended.
        var holder: Holder?
    }

    private let retention: Int64
    private var open: [String: Open] = [:]
    private var finished = LedgerTable()
    /// The number of the last message of each replica.
    private var numbers: [String: Int64] = [:]
    /// Whether no replica has said so far what is in doubt, since the stream's beginning or since what does not count.
    private var isBeginning = false
    /// The time of the latest record, in milliseconds since 1970.
    package private(set) var latest: Int64 = 0
    /// Until when deliveries may come back that were submitted before there was a ledger; nil if none can.
    package private(set) var doubtsUntil: Int64?
    /// What is not about single jobs.
    package private(set) var fleet = FleetState()
    private var budget: FleetBudget?
    /// The replicas whose acceptances came after they had been given up, by job; the last of them only.
    private var late: [String: String] = [:]
    private var lateOrder: Deque<String> = []
    private static let mostLate = 4096

    /// Nothing has been read; what is older than `retention`, in milliseconds, is forgotten.
    ///
    /// With a budget no more than so many images are begun within so many milliseconds.
    package init(retention: Int64, budget: (images: Int, period: Int64)? = nil) {
        self.retention = retention
        self.budget = budget.map { FleetBudget(images: $0.images, period: $0.period) }
    }

    /// Images that count towards the budget at a moment; nil without one.
    package func budgetUsed(at now: Int64) -> Int? { budget?.used(at: now) }

    /// Jobs that are remembered.
    package var count: Int { open.count + finished.count }

    /// Whether a message was applied before: after a lost confirm it is published twice.
    package func hasApplied(_ message: LedgerMessage) -> Bool {
        message.number <= numbers[message.replica] ?? -1
    }

    /// The number of the last message of a replica that was applied.
    package func lastNumber(of replica: String) -> Int64? { numbers[replica] }

    /// The answer that a request would get now; nothing changes.
    package func answer(to request: JournalRequest, by replica: String, at now: Int64) -> Answer {
        decide(request, by: replica, at: now).answer
    }

    /// The replica that told of an acceptance after it had been given up; nil if the end came in time, or long ago.
    ///
    /// Who took the job then has told that its outcome is unknown.
    package func lateHolder(of id: String) -> String? { late[id] }

    /// Whether a job is being submitted by a replica, and by the record at that offset.
    package func isHeld(_ id: String, by holder: Holder) -> Bool {
        guard let open = open[id], case .begun(let owner) = open.entry.state else { return false }
        return open.holder == holder && !owner.isEmpty
    }

    /// Applies a message; the answers to its `begin` records, in their order.
    package mutating func apply(_ message: LedgerMessage, at offset: Int64) -> [Answer] {
        guard !hasApplied(message) else { return [] }
        if offset == 0 { isBeginning = true }
        numbers[message.replica] = message.number
        latest = max(latest, message.at)
        let isFirst = isBeginning
        // An order, or the greeting of a replica that died before it could say what is in doubt, hides nothing.
        if message.records.contains(where: { $0.kind == "born" }) { isBeginning = false }
        fleet.heard(from: message)
        var answers: [Answer] = []
        for record in message.records {
            fleet.apply(record, of: message, at: offset)
            switch record {
            case .begin(let request):
                answers.append(begin(request, by: Holder(replica: message.replica, offset: offset), at: message.at))
            case .end(let id, let verdict): end(id, verdict, by: message.replica, at: message.at, offset)
            case .settled(let id): settled(id, at: message.at)
            case .abandon(let id, let begun): abandon(id, begunAt: begun)
            // Who knows of a longer doubt is right.
            case .born(let seconds, let isConditional) where seconds > 0 && (!isConditional || isFirst):
                doubtsUntil = max(doubtsUntil ?? 0, message.at + seconds * 1000)
            case .born: break
            case .known: doubtsUntil = nil
            case .hello, .bye, .slots, .closed, .probe, .opened, .pause, .resume, .alive, .followed, .unknown: break
            }
        }
        return answers
    }

    /// Passes over a message that does not count.
    ///
    /// Those before the first that does are as if they were not there: neither somebody who writes early nor a user whose
    /// records no longer count must hide that the ledger begins here.
    package mutating func skip() {
        if numbers.isEmpty { isBeginning = true }
    }

    /// Forgets what is older than the retention.
    package mutating func sweep(now: Int64) {
        open = open.filter { !isForgotten($0.value.entry.changedAt, at: now) }
        let (oldest, isTooSmall) = now.subtractingReportingOverflow(retention)
        finished.removeAll(changedBefore: isTooSmall ? .min : oldest / 1000)
    }

    // MARK: - The records

    private func isForgotten(_ changedAt: Int64, at now: Int64) -> Bool {
        let (age, isTooLarge) = now.subtractingReportingOverflow(changedAt)
        return isTooLarge ? now > changedAt : age > retention
    }

    private func decide(
        _ request: JournalRequest,
        by replica: String,
        at now: Int64
    ) -> (answer: Answer, write: JournalEntry?) {
        var entry: JournalEntry?
        var row: LedgerTable.Row?
        if let open = open[request.id] {
            entry = isForgotten(open.entry.changedAt, at: now) ? nil : open.entry
        } else if let found = finished[request.id], !isForgotten(found.changedAt * 1000, at: now) {
            row = found
            entry = JournalEntry(found, comparedWith: request.digest)
        }
        let (answer, write) = JournalEntry.answer(
            to: request,
            given: entry,
            by: replica,
            now: now,
            isAlive: { !$0.isEmpty }
        )
        if case .begun = answer, let budget, budget.used(at: now) + request.images > budget.images {
            return (Answer(answer: .overBudget), nil)
        }
        switch answer {
        case .accepted: return (Answer(answer: answer, acceptedAt: row?.offset), write)
        case .inFlight: return (Answer(answer: answer, holder: open[request.id]?.holder), write)
        default: return (Answer(answer: answer, mustBeWritten: write != nil), write)
        }
    }

    private mutating func begin(_ request: JournalRequest, by holder: Holder, at now: Int64) -> Answer {
        let (answer, write) = decide(request, by: holder.replica, at: now)
        if let write {
            if !write.isFinished { budget?.begin(request.id, request.images, at: now) }
            finished[request.id] = nil
            late[request.id] = nil
            open[request.id] = Open(entry: write, holder: write.isFinished ? nil : holder)
        }
        return answer
    }

    /// Only of who began it; an end that comes after the job was abandoned is the truth, late.
    private mutating func end(
        _ id: String,
        _ verdict: JournalVerdict,
        by replica: String,
        at now: Int64,
        _ offset: Int64
    ) {
        guard let begun = open[id], begun.holder?.replica == replica, case .begun = begun.entry.state else { return }
        budget?.end(id, isFree: verdict.isFree)
        if case .accepted = verdict, case .begun(owner: "") = begun.entry.state { noteLate(id, replica) }
        guard let entry = begun.entry.after(verdict, now: now) else {
            open[id] = nil
            return
        }
        if let row = LedgerTable.Row(entry, at: offset), row.isPackable {
            finished[id] = row
            open[id] = nil
        } else {
            open[id] = Open(entry: entry)
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
        } else if let entry = open[id]?.entry.afterAcknowledgement(now: now) {
            open[id] = Open(entry: entry)
        }
    }

    private mutating func abandon(_ id: String, begunAt offset: Int64) {
        guard let begun = open[id], begun.holder?.offset == offset, case .begun = begun.entry.state else { return }
        // Nobody's: then the rules take it for one whose worker is gone.
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

extension JournalVerdict {
    /// Whether it is certain that nothing was charged.
    fileprivate var isFree: Bool {
        switch self {
        case .released: true
        case .failed(let failure): failure.charged == .no
        case .accepted, .retrying: false
        }
    }
}
