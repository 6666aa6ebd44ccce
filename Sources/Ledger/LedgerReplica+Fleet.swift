import EditJob
import Journal
import SharedValues

// What the replicas do together beside their jobs: one rate, one budget, one gate for the account, one pause; and who lives.

/// Something that another replica, or a person, has told the fleet.
package enum FleetChange: Hashable, Sendable {
    /// No replica submits any more.
    case paused
    /// Submissions may go on.
    case resumed
    /// The account takes nothing for this long, as another replica has found.
    case closed(reason: String, Duration, isHeld: Bool)
    /// The account takes jobs again.
    case opened
    /// This replica has starts that it waited for.
    case slots
    /// The ledger can be used again.
    case ready
    /// The node does not answer: all connections to it are given up.
    case silent
}

extension LedgerReplica {
    /// This replica takes another node after this long without an own heartbeat: one that was cut off from the others keeps the
    /// connections of its clients open.
    private static let longestSilence = Duration.seconds(20)
    /// Messages between two ticks, of which the shell gives four a second, that may come as they are written.
    private static let mostAtEnd = 500
    /// This replica tries again after this long without an answer to the greeting.
    private static let longestGreeting = Duration.seconds(8)
    /// For display a replica that was silent for longer does not live, in milliseconds.
    private static let shownSilence: Int64 = 30_000
    /// Between two looks at the job queue while something may come back, and otherwise.
    private static let inspection = (inDoubt: Duration.seconds(5), otherwise: Duration.seconds(60))
    /// Between two looks at where the stream begins.
    private static let sweeping = Duration.seconds(300)

    // MARK: - Time

    mutating func tick(_ gate: String?, _ isBlocked: Bool, at now: LedgerMoment) -> [LedgerEffect] {
        self.gate = gate
        var effects = expire(at: now)
        if let until = strangersUntil, now.monotonic >= until { strangersUntil = nil }
        if case .joining(_, let until) = phase, now.monotonic >= until {
            phase = .upToDate
            effects += tellFleet()
        }
        effects += beat(isBlocked, at: now) + look(at: now)
        let members = state.fleet.alive(at: now.wall, within: Self.shownSilence)
        return effects + [.knowsFleet(replicas: members, imagesLeft: imagesLeft(at: now))]
    }

    private func imagesLeft(at now: LedgerMoment) -> Int? {
        options.budget.flatMap { budget in
            state.budgetUsed(at: now.wall).map { max(0, budget.count - $0) }
        }
    }

    /// Tells the others that this replica lives, when it is time to, and at once what has changed of its gate; leaves a node
    /// that does not answer.
    private mutating func beat(_ isBlocked: Bool, at now: LedgerMoment) -> [LedgerEffect] {
        guard !phase.isAway, !isClosed else { return [] }
        if isBlocked {
            silence.held(at: now.monotonic)
            lastCame = now.monotonic
        }
        let waiting =
            canWrite ? silence.waiting(at: now.monotonic) : lastCame.map { now.monotonic - $0 }
        isStalled = canWrite && waiting.map { $0 > Self.longestWait } ?? false
        if let waiting, waiting > longestSilence {
            // Before the stream is read, it may be the stream alone that has a trouble.
            return disconnected(canWrite || phase.isReading)
        }
        guard canWrite else {
            // As long as much comes, it is what was written before.
            if isBlocked || readSinceTick > Self.mostAtEnd { greetedAt = now.monotonic }
            readSinceTick = 0
            return lookForExpected(at: now) + greetAgain(after: Self.longestSilence, at: now)
        }
        let new = Reported(isReady: isReady, gate: gate, paused: state.fleet.pause?.reason)
        guard mustReport || reported != new || silence.isDue(at: now.monotonic) else { return [] }
        (reported, mustReport) = (new, false)
        silence.sent(at: now.monotonic)
        return write(.alive(report(at: now)), nil)
    }

    /// A greeting that went to a leader which was being replaced is lost: 4.3.6 never confirms it.
    private var longestSilence: Duration {
        switch phase {
        case .greeting: Self.longestGreeting
        case .away, .inspecting, .reading, .rewriting, .joining, .upToDate: Self.longestSilence
        }
    }

    private func report(at now: LedgerMoment) -> LedgerReport {
        var report = LedgerReport(version: options.greeting.version, since: options.startedAt, inFlight: inFlight)
        report.gate = gate ?? (isReady ? nil : "ledger")
        report.paused = state.fleet.pause?.reason
        report.pause = state.fleet.pause?.message
        if isCovered, let known = [ownKnown, state.knownFrom].compactMap({ $0 }).max() {
            (report.known, report.gap) = (known, state.gap)
        }
        report.read = place
        report.user = user
        report.writers = options.greeting.settings["journal.writers"]
        if let limit = options.rateLimit, let slots {
            report.rate = .init(used: slots.used(now: now.monotonic), limit: limit.text)
        }
        if let budget = options.budget, let used = state.budgetUsed(at: now.wall) {
            report.budget = .init(used: used, limit: budget.text)
        }
        return report
    }

    // MARK: - What may come back

    /// Looks at the job queue and at where the stream begins, from time to time.
    private mutating func look(at now: LedgerMoment) -> [LedgerEffect] {
        guard phase.isUpToDate else { return [] }
        sample(at: now)
        var effects: [LedgerEffect] = []
        if isWaitingForWitness(at: now), !isJobQueueHidden, now.monotonic >= nextInspection ?? now.monotonic {
            nextInspection = now.monotonic + (isCovered ? Self.inspection.otherwise : Self.inspection.inDoubt)
            effects.append(.inspectJobs)
        }
        let sweep = nextSweep ?? now.monotonic + Self.sweeping
        nextSweep = sweep
        if now.monotonic >= sweep || hole != nil {
            nextSweep = now.monotonic + Self.sweeping
            effects.append(.lookFirst)
        }
        return effects
    }

    /// Notes how far was read: what was delivered before that can be held for as long as the broker allows.
    private mutating func sample(at now: LedgerMoment) {
        let interval = max(options.consumerTimeout / 30, .seconds(1))
        let next = now.monotonic + options.consumerTimeout
        if samples.isEmpty, ownKnown == nil {
            // After a cut, a replica that knew more may have given jobs back as copies, which no consumer holds.
            let isAlone = !state.fleet.hasOthers(than: name, within: options.consumerTimeout.wholeMilliseconds)
            let isSafe = isUnheld && (state.knownFrom == nil || isAlone)
            samples.append(Sample(safeAt: isSafe ? now.monotonic : next, offset: first ?? 0))
        } else if samples.last.map({ next - $0.safeAt >= interval }) ?? true {
            samples.append(Sample(safeAt: next, offset: end &+ 1))
        }
    }

    /// Whether no worker held a delivery when this replica came.
    ///
    /// A classic queue forgets a consumer that is cancelled and still holds some.
    private var isUnheld: Bool {
        switch jobsAtStart {
        case .missing: true
        case .seen(_, let consumers): consumers == 0 && options.countsHolders
        case .hidden: false
        }
    }

    /// After the doubt has ended, a delivery that was sent before may still come for this long.
    private static let onItsWay = Duration.seconds(3)

    /// Whether a delivery that comes now, and was one before, may have been submitted without a record that this replica has.
    package func doubtsDeliveries(at now: LedgerMoment) -> Bool {
        !isCovered || coveredSince.map { now.monotonic - $0 < Self.onItsWay } ?? false
    }

    /// Whether it is of use to know whether a delivery was one before.
    package func watchesDeliveries(at now: LedgerMoment) -> Bool {
        phase.isUpToDate && (doubtsDeliveries(at: now) || isWaitingForWitness(at: now))
    }

    private func isWaitingForWitness(at now: LedgerMoment) -> Bool {
        // Also one that was seen, and could not be said yet.
        if !isCovered, !mustTellGap, let ownKnown, let first, first <= ownKnown { return true }
        return samples.first.map { $0.safeAt <= now.monotonic } ?? false
    }

    /// A delivery has come.
    ///
    /// What comes for the first time stands behind all that has come back (rabbit_fifo, `returns`).
    mutating func delivered(_ wasBefore: Bool, at now: LedgerMoment) -> [LedgerEffect] {
        if !isCovered { hasTaken = true }
        if wasBefore, doubtsDeliveries(at: now) { lastDoubt = now.monotonic }
        guard !wasBefore, phase.isUpToDate else { return [] }
        sample(at: now)
        return nothingCameBack(at: now)
    }

    /// The job queue holds nothing that was delivered before: what no worker can hold any more does not come back.
    mutating func nothingCameBack(at now: LedgerMoment) -> [LedgerEffect] {
        sample(at: now)
        while let sample = samples.first, sample.safeAt <= now.monotonic {
            samples.removeFirst()
            ownKnown = max(ownKnown ?? sample.offset, sample.offset)
        }
        guard !isCovered, !mustTellGap, let ownKnown, let first, first <= ownKnown else { return [] }
        // One in doubt may have no end yet, and would come back without its doubt if this replica died.
        if let lastDoubt, now.monotonic - lastDoubt < options.patience { return [] }
        return write(.known(from: ownKnown, gap: state.gap, read: place), nil)
    }

    /// The stream begins there now.
    mutating func sawFirst(_ offset: Int64, at now: LedgerMoment) -> [LedgerEffect] {
        if let hole {
            self.hole = nil
            if offset > hole.after &+ 1 {
                // What was skipped was cut off, perhaps with own records: of what stands before, too little is known.
                first = hole.before
                return disconnected(false)
            }
        }
        state.sweep(now: now.wall, first: offset)
        if let outdated = outdatedAt, outdated < offset { outdatedAt = nil }
        return [.remembers(state.count)]
    }

    // MARK: - Pause, closure, probe

    /// What of pause and closure is news to the worker; `hasOpened` if its own gate has opened, and says so.
    mutating func tellFleet(hasOpened: Bool = false) -> [LedgerEffect] {
        guard phase.isUpToDate else { return [] }
        var effects: [LedgerEffect] = []
        let (pause, closure) = (state.fleet.pause?.message, state.fleet.closure?.message)
        // At first all that stands, also an order that was taken back meanwhile; then what is new.
        if !hasToldFleet || pause != toldPause { effects.append(.tell(pause == nil ? .resumed : .paused)) }
        if closure != toldClosure || !hasToldFleet && closure != nil {
            if let closed = state.fleet.closure {
                if closed.message.replica != name || !hasToldFleet {
                    let delay = Duration.milliseconds(closed.milliseconds)
                    effects.append(.tell(.closed(reason: closed.reason, delay, isHeld: closed.isHeld)))
                }
            } else if !hasOpened {
                // What it has said itself the gate knows, and it may have closed again since.
                effects.append(.tell(.opened))
            }
        }
        (hasToldFleet, toldPause, toldClosure) = (true, pause, closure)
        return effects
    }

    mutating func wantsProbe(_ waiter: LedgerEvent.Waiter, at now: LedgerMoment) -> [LedgerEffect] {
        guard let closure = state.fleet.closure else { return [.answer(waiter, .probe(true))] }
        // Who tries has as long as a submission takes, and then is taken for gone if it is.
        if let probe = closure.probe, probe.replica != name, !isGone(probe) {
            return [.answer(waiter, .probe(false))]
        }
        probing.insert(waiter)
        probed = closure.message
        deadlines.append(Deadline(moment: now.monotonic + Self.longestWait, waiter: waiter))
        return write(.probe(closure: closure.message, after: closure.probe), waiter)
    }

    /// Whether this replica is the one that tries, or there is another closure now.
    var hasProbe: Bool {
        guard let closure = state.fleet.closure else { return true }
        return closure.message != probed || closure.probe?.replica == name
    }

    // MARK: - Starts

    mutating func wantsStart(_ waiting: Int, at now: LedgerMoment) -> [LedgerEffect] {
        guard let turn = slots?.turn(waiting: waiting, now: now.monotonic) else {
            return [.turn(.start(before: now.monotonic + .seconds(60)))]
        }
        guard case .ask(let count) = turn else { return [.turn(turn)] }
        outbox.append(Pending(record: .slots(count), waiter: nil))
        return flush(at: now) + [.turn(.wait(until: now.monotonic + .seconds(1)))]
    }

    mutating func readSlots(
        of message: LedgerMessage,
        isNew: Bool,
        publishedAt: ContinuousClock.Instant?,
        at now: LedgerMoment
    ) -> [LedgerEffect] {
        guard isNew, slots != nil else { return [] }
        let (isOwn, isCatchingUp) = (message.replica == name, !canWrite)
        var effects: [LedgerEffect] = []
        if let publishedAt { slots?.readOwnMessage(publishedAt: publishedAt) }
        for case .slots(let count) in message.records {
            slots?.readSlots(count, isOwn: isOwn, isCatchingUp: isCatchingUp, now: now.monotonic)
            if isOwn { effects.append(.tell(.slots)) }
        }
        // What was asked for on an old connection is asked for again.
        if isCatchingUp { slots?.forgetQuestion() }
        return effects
    }
}
