import DequeModule
import Journal
import SharedValues

// From a new connection to the moment at which submissions can be let through.

extension LedgerReplica {
    /// How long the first message may take to come.
    private static let usualWait = Duration.seconds(3)

    /// Stands for those who may live and whom the stream does not name.
    static let unnamed = ""

    /// Whether all that may come back stands in what this replica has read.
    package var isCovered: Bool {
        guard !mustTellGap, hole == nil, let first, let known = state.knownFrom else { return false }
        return first <= known
    }

    mutating func connected(_ link: Int, _ user: String?, at now: LedgerMoment) -> [LedgerEffect] {
        self.link = link
        guard !hasNamesake else { return [.leave] }
        self.user = user
        (sent, isFlushDue, greeting) = (nil, false, -1)
        silence.connected()
        (reported, mustReport, answered) = (nil, false, [])
        lastCame = now.monotonic
        (connectedAt, readingFrom, progress) = (now.wall, nil, 0)
        (hasToldFleet, isJobQueueHidden, expected, readingSince) = (false, false, [], nil)
        guard place == nil else { return greet(at: now) }
        (first, end, hole) = (nil, -1, nil)
        phase = .inspecting
        return [.inspectJobs]
    }

    mutating func disconnected(_ isSilent: Bool) -> [LedgerEffect] {
        // Each of many that were on their way may say so.
        guard !phase.isAway else { return [.leave] }
        phase = .away
        (sent, isStalled) = (nil, false)
        return isSilent && !isClosed ? [.tell(.silent), .leave] : [.leave]
    }

    mutating func saw(_ jobs: LedgerEvent.JobQueue, at now: LedgerMoment) -> [LedgerEffect] {
        lastCame = now.monotonic
        if phase.isInspecting {
            // What is seen of the job queue says nothing of a stream that has lost something.
            jobsAtStart = mustTellGap ? .hidden : jobs
            return greet(at: now)
        }
        if jobs == .hidden { isJobQueueHidden = true }
        // A quorum queue without a leader answers that it has neither messages nor consumers (`rabbit_quorum_queue:stat/1`).
        guard phase.isUpToDate, case .seen(ready: 0, let consumers) = jobs, consumers > 0 else { return [] }
        return nothingCameBack(at: now)
    }

    /// Greets the others, before all that waits.
    ///
    /// Behind the message that was read last there is something to be found then, if that still stands where it stood.
    private mutating func greet(at now: LedgerMoment) -> [LedgerEffect] {
        let (number, body) = writeGreeting(at: now)
        (sent, greeting) = (number, number)
        hasFoundGap = mustTellGap
        phase = .greeting
        lastCame = now.monotonic
        return [.greet(number: number, body: body)]
    }

    private mutating func writeGreeting(at now: LedgerMoment) -> (number: Int64, body: [UInt8]) {
        var hello = options.greeting
        hello.settings["amqp.user"] = user
        let message = message(of: (mustTellGap ? [.gap] : []) + [.hello(hello)], at: now)
        let body = message.encoded
        owed.append(Owed(message: message, body: body, publishedAt: now.monotonic))
        greetedAt = now.monotonic
        return (message.number, body)
    }

    /// Greets once more if the greeting did not come back for long: the stream may have been cut short or made again between
    /// its confirm and the reading, and others who write keep this replica from noticing.
    mutating func greetAgain(after patience: Duration, at now: LedgerMoment) -> [LedgerEffect] {
        guard phase.isReading, let greetedAt, now.monotonic - greetedAt > patience else { return [] }
        let (number, body) = writeGreeting(at: now)
        return [.publish(number: number, body: body)]
    }

    /// The broker has the greeting.
    mutating func greetingIsConfirmed(at now: LedgerMoment) -> [LedgerEffect] {
        lastCame = now.monotonic
        phase = .reading
        // The last messages are read once more, to see that they still stand there. The last one alone would not show it: others
        // may have lost the same tail, and what they have written again may stand where it stood, but for what none of them had.
        expected = state.places
        if let anchor, let index = expected.firstIndex(where: { $0.offset == anchor }) { expected.removeFirst(index) }
        guard let first = expected.first else { return [.consume(from: nil)] }
        (hasCompared, end) = (false, first.offset &- 1)
        return [.consume(from: first.offset)]
    }

    /// Looks for the last expected message if it does not come: a reader of what lies behind the end of a stream waits.
    ///
    /// Not before: while a node is away that led the stream, each question about it costs the broker 7 s (`net_setuptime`).
    mutating func lookForExpected(at now: LedgerMoment) -> [LedgerEffect] {
        guard phase.isReading, let last = expected.last, let since = readingSince,
            now.monotonic - since > Self.usualWait
        else {
            return []
        }
        readingSince = nil
        return [.look(at: last.offset)]
    }

    mutating func saw(_ id: LedgerMessage.ID?, _ offset: Int64?, at now: LedgerMoment) -> [LedgerEffect] {
        guard phase.isReading, let last = expected.last else { return [] }
        lastCame = now.monotonic
        guard id == last.message, offset == last.offset else {
            loseStream(at: now)
            return disconnected(false)
        }
        return []
    }

    /// The stream is another one, or has lost its end: it is read from its beginning.
    ///
    /// What was read stays known. What is still held of it and does not stand there any more is written again.
    mutating func loseStream(at now: LedgerMoment) {
        (mustTellGap, isReadingAgain) = (true, true)
        (expected, anchor, first, end, hole) = ([], nil, nil, -1, nil)
        outdatedAt = nil
        state.forgetPlaces()
        losses += 1
        forgetWitnesses(at: now)
        missing = Set(kept.map(\.id)).union(submitting.values.map(\.begun))
        missing.formUnion(state.standingOrders.map(\.id))
        missing.formUnion([state.fleet.pause?.message, state.fleet.closure?.message].compactMap { $0 })
    }

    /// What was seen of the job queue says nothing of the stream as it is after a gap; and starts that stood in what was lost
    /// may have been used.
    mutating func forgetWitnesses(at now: LedgerMoment) {
        (samples, ownKnown, jobsAtStart) = ([], nil, .hidden)
        slots?.block(now: now.monotonic)
    }

    // MARK: - Before the first submission

    /// Goes on once those have been heard that may know more: a newcomer must not overtake them.
    mutating func join(at now: LedgerMoment) {
        // One that has read all there was, and goes on where it stopped, overtakes no other replica.
        guard hasFoundGap || !isCovered && !wasReady else {
            phase = .upToDate
            return
        }
        var others = Set(state.fleet.members.keys).subtracting(answered)
        others.remove(name)
        // To a newcomer a stream that names no replica may be one that was made again under those who live.
        let mayHideOthers: Bool =
            if case .seen(_, let consumers) = jobsAtStart { consumers > 0 } else { jobsAtStart == .hidden }
        let isUnknown = !wasReady && state.knownFrom == nil && state.fleet.members.keys.allSatisfy { $0 == name }
        guard !others.isEmpty || isUnknown && mayHideOthers else {
            phase = .upToDate
            return
        }
        // It is unknown whose report would be the last one.
        if isUnknown { others.insert(Self.unnamed) }
        phase = .joining(others, until: now.monotonic + options.patience)
    }

    /// Records of strangers have no effect on a replica that lives.
    ///
    /// But one that starts beside workers of another user would know nothing of what they submit, and they nothing of it.
    mutating func note(stranger user: String, _ body: [UInt8], at now: LedgerMoment) -> [LedgerEffect] {
        var isWorker = false
        if !wasReady, let message = try? LedgerMessage(parsing: body) {
            let age = now.wall.subtractingReportingOverflow(message.at)
            isWorker =
                !age.overflow && age.partialValue < options.patience.wholeMilliseconds
                && message.records.contains { ["hello", "alive", "begin"].contains($0.kind) }
        }
        if isWorker { strangersUntil = now.monotonic + options.patience }
        guard strangers.count < 100, strangers.insert("\(isWorker) \(user)").inserted else { return [] }
        return [.readStranger(user: user, isAtStart: isWorker)]
    }
}
