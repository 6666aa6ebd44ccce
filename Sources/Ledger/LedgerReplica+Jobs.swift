import EditJob
import Journal

// A job's way through the ledger: what is known, a `begin` that is read back, an answer by the order of the stream.

extension LedgerReplica {
    static let outdated = JournalFault(
        .ledger,
        description: "a newer version writes this ledger: upgrade this replica"
    )

    static let silent = JournalFault(
        .ledger,
        description: "the ledger does not answer; check the stream on the broker, and the broker's log"
    )

    static let overBudget = JournalFault(
        .budget,
        description: "the images of the next job exceed fleet.budget: wait, or raise it"
    )

    /// Submissions of this replica that are under way.
    package var inFlight: Int { submitting.count }

    /// Whether this replica is still the one that is submitting a job, and the fleet is not paused, as far as the ledger was
    /// read.
    ///
    /// Not after a sleep in which the others may have given it up. A job without an id is not in the ledger.
    package func maySubmit(_ id: String?, at now: LedgerMoment) -> Bool {
        guard state.fleet.pause == nil else { return false }
        guard let id else { return true }
        guard isReady, let mine = submitting[id], !silence.hasSlept(at: now.monotonic) else { return false }
        return state.isHeld(id, by: mine.begun)
    }

    /// Whether this replica is the one that tells of an acceptance which came after it had been given up.
    package func mayTellLate(_ id: String) -> Bool { state.lateHolder(of: id) == name }

    mutating func want(
        _ request: JournalRequest,
        _ waiter: LedgerEvent.Waiter,
        at now: LedgerMoment
    ) -> [LedgerEffect] {
        guard outdatedAt == nil else { return [.answer(waiter, .fault(Self.outdated))] }
        guard !isClosed else { return [.answer(waiter, .fault(Self.silent))] }
        var request = request
        // The stream was lost after the delivery came, and with it perhaps what had become of it.
        if let losses = request.lossesAtDelivery, losses != self.losses { request.mayBeSubmittedElsewhere = true }
        wanting[waiter] = Want(request: request)
        return ask(waiter, at: now)
    }

    /// Asks what is known of a job, and goes on from there; waits while the ledger cannot be asked.
    private mutating func ask(_ waiter: LedgerEvent.Waiter, at now: LedgerMoment) -> [LedgerEffect] {
        guard let request = wanting[waiter]?.request else { return [] }
        guard isReady else {
            if wanting[waiter]?.stage != .waiting || wanting[waiter]?.deadline == nil { wait(waiter, at: now) }
            wanting[waiter]?.stage = .waiting
            return []
        }
        if request.isQuestion, wanting[waiter]?.hasRead == false {
            // The answer may stand behind what was read. What is told of the job must hold, too: who had it before, and does not
            // know that its delivery is gone, must not begin it behind the answer.
            wanting[waiter]?.stage = .asking
            wait(waiter, at: now)
            return write(.withdrawn(id: request.id, replay: request.replay), waiter)
        }
        let known = state.answer(to: request, by: name, at: now.wall)
        let isOutdated = isWithdrawn(request) || isLost(request) && known.prior.allowsSubmission
        guard known.mustBeWritten, !isOutdated else { return follow(known, waiter, wasWritten: false, at: now) }
        wanting[waiter]?.stage = .writing
        wait(waiter, at: now)
        return write(.begin(request), waiter)
    }

    mutating func wait(_ waiter: LedgerEvent.Waiter, at now: LedgerMoment) {
        let deadline = Deadline(moment: now.monotonic + Self.longestWait, waiter: waiter)
        deadlines.append(deadline)
        wanting[waiter]?.deadline = deadline.moment
    }

    private mutating func follow(
        _ known: LedgerState.Answer,
        _ waiter: LedgerEvent.Waiter,
        wasWritten: Bool,
        at now: LedgerMoment
    ) -> [LedgerEffect] {
        guard let want = wanting[waiter] else { return [] }
        let id = want.request.id
        guard !isWithdrawn(want.request), !isLost(want.request) || !known.prior.allowsSubmission else {
            let release = wasWritten && known.hasBegun ? write(.end(id: id, .released), nil) : []
            return end(waiter, .job(.withdrawn)) + release
        }
        guard !known.isOverBudget else {
            // For replicas that have another budget, or none: to them it is begun.
            let release = wasWritten ? write(.end(id: id, .released), nil) : []
            return end(waiter, .fault(Self.overBudget)) + release
        }
        switch known.prior {
        case .ended(.accepted, let attempts, let mayBeDuplicate):
            func endAsUnknown() -> [LedgerEffect] {
                end(waiter, .job(.ended(.unknown(.unfinished), attempts: attempts)))
            }
            // The other one, whose end came behind the record that gave it up, tells of it by itself.
            guard !want.hasAbandoned || state.lateHolder(of: id) == nil else { return endAsUnknown() }
            guard let offset = known.acceptedAt else { return end(waiter, .job(known.prior)) }
            // The stream was made again without it: the broker would have nothing to send.
            guard offset <= self.end else { return endAsUnknown() }
            wanting[waiter]?.stage = .fetching(attempts: attempts, mayBeDuplicate: mayBeDuplicate)
            return [.fetch(id: id, at: offset, waiter)]
        case .running:
            guard let holder = known.holder, isGone(holder) else { return end(waiter, .job(.running)) }
            wanting[waiter]?.hasAbandoned = true
            wanting[waiter]?.stage = .abandoning
            wait(waiter, at: now)
            return write(.abandon(id: id, begun: holder), waiter)
        case .never, .possible, .withdrawn, .ended: return end(waiter, .job(known.prior))
        }
    }

    /// Whether the stream was found to have lost something since the job was delivered, which was one before.
    private func isLost(_ request: JournalRequest) -> Bool {
        !request.mayBeSubmittedElsewhere && request.lossesAtDelivery.map { $0 != losses } ?? false
    }

    /// Whether the broker has taken the job out of its queue since it was delivered, or may have.
    private func isWithdrawn(_ request: JournalRequest) -> Bool {
        request.readsAtDelivery.map { withdrawn.contains(request.id, after: $0) } ?? false
    }

    /// Whether the replica that has written a message is gone.
    func isGone(_ holder: LedgerMessage.ID) -> Bool { holder.replica != name && silence.isGone(holder.replica) }

    mutating func fetched(
        _ acceptance: Acceptance?,
        _ isAnswer: Bool,
        _ waiter: LedgerEvent.Waiter
    ) -> [LedgerEffect] {
        guard case .fetching(let attempts, let mayBeDuplicate)? = wanting[waiter]?.stage else { return [] }
        guard isAnswer else { return end(waiter, .fault(Self.silent)) }
        guard let acceptance else { return end(waiter, .job(.ended(.unknown(.unfinished), attempts: attempts))) }
        let verdict = Verdict.accepted(taskID: acceptance.taskID, at: acceptance.at)
        return end(waiter, .job(.ended(verdict, attempts: attempts, mayBeDuplicate: mayBeDuplicate)))
    }

    private mutating func end(_ waiter: LedgerEvent.Waiter, _ answer: LedgerEffect.Answer) -> [LedgerEffect] {
        wanting[waiter] = nil
        return [.answer(waiter, answer)]
    }

    /// An own message was read back: the waiters for its records go on.
    mutating func readBack(
        _ message: LedgerMessage,
        _ owed: Owed,
        _ answers: [LedgerState.Answer],
        at now: LedgerMoment
    ) -> [LedgerEffect] {
        var effects: [LedgerEffect] = []
        var answers = answers.makeIterator()
        // Another replica that has written it again has left out what did not outlive the stream.
        let isWhole = message.records.count == owed.message.records.count
        let places = isWhole ? Array(message.records.indices) : owed.places(of: message)
        var waiters = owed.waiters
        for (record, place) in zip(message.records, places) {
            var waiter: LedgerEvent.Waiter?
            if let place, waiters.indices.contains(place) { swap(&waiter, &waiters[place]) }
            switch record {
            case .begin(let request):
                guard let answer = answers.next() else { continue }
                if answer.hasBegun {
                    let isAwaited = waiter.map { wanting[$0] != nil } ?? false
                    if isAwaited || submitting[request.id]?.begun == message.id {
                        submitting[request.id] = Submitting(request: request, begun: message.id, at: message.at)
                    } else {
                        releaseUnawaited(request.id, begun: message.id)
                    }
                } else if state.gap != nil, submitting[request.id] == nil {
                    // To a replica that has read less of what was lost it may have won.
                    releaseUnawaited(request.id, begun: message.id)
                }
                if let waiter { effects += follow(answer, waiter, wasWritten: true, at: now) }
            case .end(let id, _):
                submitting[id] = nil
                if let waiter { effects += written(waiter, at: now) }
            // One that took long was written once more, and what it was waited for may be answered.
            case .abandon, .withdrawn:
                if let waiter, wanting[waiter] != nil { effects += written(waiter, at: now) }
            default: if let waiter { effects += written(waiter, at: now) }
            }
        }
        for case let left? in waiters { effects += wanting[left] != nil ? ask(left, at: now) : written(left, at: now) }
        return effects
    }

    /// A record that a waiter waits for is in the stream.
    mutating func written(_ waiter: LedgerEvent.Waiter, at now: LedgerMoment) -> [LedgerEffect] {
        if let want = wanting[waiter] {
            if want.stage == .asking { wanting[waiter]?.hasRead = true }
            // An earlier record that gave a replica up may come back after it was waited for.
            return want.stage == .abandoning || want.stage == .asking ? ask(waiter, at: now) : []
        }
        if probing.remove(waiter) != nil { return [.answer(waiter, .probe(hasProbe))] }
        return [.answer(waiter, .done)]
    }

    // MARK: - Who has waited too long

    mutating func expire(at now: LedgerMoment) -> [LedgerEffect] {
        var effects: [LedgerEffect] = []
        while let due = deadlines.first, due.moment <= now.monotonic {
            deadlines.removeFirst()
            if probing.contains(due.waiter) { effects += written(due.waiter, at: now) }
            guard let want = wanting[due.waiter], want.deadline == due.moment else { continue }
            switch want.stage {
            case .waiting: effects += end(due.waiter, .fault(outdatedAt == nil ? Self.silent : Self.outdated))
            case .writing:
                withdraw(due.waiter, of: want.request.id)
                effects += end(due.waiter, .fault(Self.silent)) + flushSoon()
            // It is written all the same, and what is true then is looked up.
            case .abandoning: effects += ask(due.waiter, at: now)
            case .asking: effects += end(due.waiter, .fault(Self.silent))
            // The broker's answer, or its silence, ends it.
            case .fetching: break
            }
        }
        return effects
    }

    /// Gives up a `begin` that no waiter needs any more: nothing was submitted.
    private mutating func withdraw(_ waiter: LedgerEvent.Waiter, of id: String) {
        if let index = outbox.firstIndex(where: { $0.waiter == waiter }) {
            outbox.remove(at: index)
            return
        }
        submitting[id] = nil
        outbox.append(Pending(record: .end(id: id, .released), waiter: nil))
    }

    /// Gives up a `begin` that leads to no submission, unless its release is on its way.
    ///
    /// The release may stand before it: what a lost connection has left behind is written again.
    private mutating func releaseUnawaited(_ id: String, begun: LedgerMessage.ID) {
        func isRelease(_ record: LedgerRecord) -> Bool {
            if case .end(id, .released) = record { true } else { false }
        }
        let isComing = owed.contains { owed in
            owed.message.replica == name && owed.message.number > begun.number
                && owed.message.records.contains(where: isRelease)
        }
        guard !isComing, !outbox.contains(where: { isRelease($0.record) }) else { return }
        outbox.append(Pending(record: .end(id: id, .released), waiter: nil))
    }

    mutating func giveUp(_ waiter: LedgerEvent.Waiter) -> [LedgerEffect] {
        if let index = waitingForReady.firstIndex(of: waiter) {
            waitingForReady.remove(at: index)
            return [.answer(waiter, .done)]
        }
        return wanting[waiter]?.stage == .waiting ? end(waiter, .fault(Self.silent)) : []
    }

    /// Submissions can be let through: the waiters for that go on.
    mutating func becomeReady(isFirst: Bool, at now: LedgerMoment) -> [LedgerEffect] {
        var effects: [LedgerEffect] = waitingForReady.map { .answer($0, .done) }
        waitingForReady = []
        switch jobsAtStart {
        case .missing where isFirst, .seen(ready: 0, _) where isFirst: effects += nothingCameBack(at: now)
        case .missing, .seen, .hidden: break
        }
        for waiter in wanting.filter({ $0.value.stage == .waiting }).keys.sorted() { effects += ask(waiter, at: now) }
        return effects
    }

    mutating func failOutdated() -> [LedgerEffect] { failWanting(Self.outdated) }

    /// Ends those whose `begin` was not written yet.
    mutating func failWanting(_ fault: JournalFault) -> [LedgerEffect] {
        wanting.filter { $0.value.stage == .waiting }.keys.sorted().flatMap { end($0, .fault(fault)) }
    }
}
