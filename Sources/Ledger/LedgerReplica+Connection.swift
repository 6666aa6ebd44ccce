import DequeModule
import Journal
import SharedValues

// From a new connection to the moment at which submissions can be let through.

extension LedgerReplica {
    /// Our own are some 100 KiB; what is larger cannot be ours, and is not parsed.
    private static let largestMessage = 1 << 20

    /// How long the first message may take to come.
    private static let usualWait = Duration.seconds(3)

    /// Stands for those who may live and whom the stream does not name.
    private static let unnamed = ""

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
        guard phase != .away else { return [.leave] }
        phase = .away
        (sent, isStalled) = (nil, false)
        return isSilent && !isClosed ? [.tell(.silent), .leave] : [.leave]
    }

    mutating func saw(_ jobs: LedgerEvent.JobQueue, at now: LedgerMoment) -> [LedgerEffect] {
        lastCame = now.monotonic
        if phase == .inspecting {
            // What is seen of the job queue says nothing of a stream that has lost something.
            jobsAtStart = mustTellGap ? .hidden : jobs
            return greet(at: now)
        }
        if jobs == .hidden { isJobQueueHidden = true }
        // A quorum queue without a leader answers that it has neither messages nor consumers (`rabbit_quorum_queue:stat/1`).
        guard phase == .upToDate, case .seen(ready: 0, let consumers) = jobs, consumers > 0 else { return [] }
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
        guard phase == .reading, let greetedAt, now.monotonic - greetedAt > patience else { return [] }
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
        end = first.offset &- 1
        return [.consume(from: first.offset)]
    }

    /// Looks for the last expected message if it does not come: a reader of what lies behind the end of a stream waits.
    ///
    /// Not before: while a node is away that led the stream, each question about it costs the broker 7 s (`net_setuptime`).
    mutating func lookForExpected(at now: LedgerMoment) -> [LedgerEffect] {
        guard phase == .reading, let last = expected.last, let since = readingSince,
            now.monotonic - since > Self.usualWait
        else {
            return []
        }
        readingSince = nil
        return [.look(at: last.offset)]
    }

    mutating func saw(_ id: LedgerMessage.ID?, _ offset: Int64?, at now: LedgerMoment) -> [LedgerEffect] {
        guard phase == .reading, let last = expected.last else { return [] }
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
    private mutating func loseStream(at now: LedgerMoment) {
        (mustTellGap, isReadingAgain) = (true, true)
        (expected, anchor, first, end, hole) = ([], nil, nil, -1, nil)
        outdatedAt = nil
        state.forgetPlaces()
        losses += 1
        forgetWitnesses(at: now)
        missing = Set(kept.map(\.id)).union(submitting.values.map(\.begun))
        missing.formUnion([state.fleet.pause?.message, state.fleet.closure?.message].compactMap { $0 })
    }

    /// What was seen of the job queue says nothing of the stream as it is after a gap; and starts that stood in what was lost
    /// may have been used.
    private mutating func forgetWitnesses(at now: LedgerMoment) {
        (samples, ownKnown, jobsAtStart) = ([], nil, .hidden)
        slots?.block(now: now.monotonic)
    }

    // MARK: - Reading

    mutating func read(_ body: [UInt8]?, _ user: String?, _ offset: Int64, at now: LedgerMoment) -> [LedgerEffect] {
        lastCame = now.monotonic
        guard offset > end else { return [] }
        if !expected.isEmpty {
            guard isAsBefore(body, at: offset) else {
                loseStream(at: now)
                return disconnected(false)
            }
            end = offset
            return []
        }
        let isSkipping = first != nil && offset > end &+ 1
        if isSkipping { hole = Hole(after: hole?.after ?? end, before: offset) }
        first = first ?? offset
        end = offset
        return (isSkipping ? [.lookFirst] : []) + read(body, user, at: offset, now)
    }

    /// Whether what is read once more is what stood there.
    private mutating func isAsBefore(_ body: [UInt8]?, at offset: Int64) -> Bool {
        // A reader skips only what the stream has dropped at its beginning.
        while let oldest = expected.first, oldest.offset < offset { expected.removeFirst() }
        guard let next = expected.first else { return false }
        // What did not count then.
        guard next.offset == offset else { return true }
        expected.removeFirst()
        return body.flatMap { try? LedgerMessage(parsing: $0) }?.id == next.message
    }

    private mutating func read(_ body: [UInt8]?, _ user: String?, at offset: Int64, _ now: LedgerMoment)
        -> [LedgerEffect]
    {
        guard let body, body.count <= Self.largestMessage else { return [] }
        guard LedgerWriters(user: self.user, others: options.writers).counts(user) else {
            return [.read(["stranger": 1])] + note(stranger: user ?? "", body, at: now)
        }
        let own = owed.first { $0.body == body }
        if let message = own?.message.asRead { return apply(message, at: offset, now) }
        do throws(LedgerMessage.Unreadable) {
            let message = try LedgerMessage(parsing: body)
            guard own != nil || !isNamesakes(message) else { return meetNamesake() }
            return apply(message, at: offset, now)
        } catch {
            // It may say that a job has begun.
            guard error.isNewer else { return [] }
            defer { outdatedAt = offset }
            return outdatedAt == nil ? [.isOutdated] + failOutdated() : []
        }
    }

    private mutating func apply(_ message: LedgerMessage, at offset: Int64, _ now: LedgerMoment) -> [LedgerEffect] {
        readingFrom = readingFrom ?? message.at
        readSinceTick += 1
        let isNew = !state.hasApplied(message)
        if isReadingAgain { missing.remove(message.id) }
        let answers = state.apply(message, at: offset)
        if !message.records.contains(where: \.outlivesStream) { anchor = offset }
        if isNew { keep(message, answers) } else { state.found(message, at: offset) }
        // A newcomer has looked at the job queue after all that it reads up to its greeting.
        let isHistory = phase == .reading && !wasReady
        if isNew, !isHistory, message.replica != name, message.records.contains(.gap) { forgetWitnesses(at: now) }
        recent.read(message, at: offset)
        let isOwn = message.replica == name
        let owed = takeOwed(message.id)
        if !isOwn { heard(message) }
        var effects = readSlots(of: message, isNew: isNew, publishedAt: isOwn ? owed?.publishedAt : nil, at: now)
        if isOwn { effects += readOwn(message, owed, answers, at: now) }
        if case .rewriting(var left) = phase {
            left.remove(message.id)
            phase = .rewriting(left)
            if left.isEmpty { join(at: now) }
        }
        effects += tellFleet()
        let share = Double(message.at - (readingFrom ?? message.at)) / Double(max(1, connectedAt - (readingFrom ?? 0)))
        progress = max(0, min(99, Int(share * 100)))
        var kinds: [String: Int] = [:]
        for record in message.records { kinds[record.kind, default: 0] += 1 }
        return effects + [.read(kinds), .remembers(state.count)]
    }

    /// A message that was owed to the stream stands there.
    private mutating func takeOwed(_ id: LedgerMessage.ID) -> Owed? {
        owed.firstIndex { $0.message.id == id }.map { owed.remove(at: $0) }
    }

    private mutating func heard(_ message: LedgerMessage) {
        silence.heard(from: message.replica)
        for record in message.records {
            switch record {
            case .hello: mustReport = true
            case .bye: goneOrHeard(message.replica)
            case .gap: gapTellers.insert(message.replica)
            // Whoever reports, in this stream, has written again what it knew.
            case .alive(let report) where phase != .reading && state.stands(report.read):
                // Who has read the stream before, and has heard all whom it knew, speaks for those who are not named.
                let knows = gapTellers.contains(message.replica) && report.gate != "ledger"
                if knows || report.known != nil { goneOrHeard(Self.unnamed) }
                goneOrHeard(message.replica)
            default: break
            }
        }
    }

    /// Ends the waiting for what that replica may know.
    private mutating func goneOrHeard(_ replica: String) {
        answered.insert(replica)
        guard case .joining(var left, let until) = phase else { return }
        left.remove(replica)
        phase = left.isEmpty ? .upToDate : .joining(left, until: until)
    }

    private mutating func readOwn(
        _ message: LedgerMessage,
        _ owed: Owed?,
        _ answers: [LedgerState.Answer],
        at now: LedgerMoment
    ) -> [LedgerEffect] {
        if message.number == sent { sent = nil }
        var effects: [LedgerEffect] = []
        if let publishedAt = owed?.publishedAt {
            effects.append(.lagged(now.monotonic - publishedAt))
            if message.records.contains(where: { $0.kind == "alive" }) {
                silence.readBack(publishedAt: publishedAt, at: now.monotonic)
            }
        }
        // Not one that told of an earlier loss.
        if message.number >= greeting, message.records.contains(.gap) { mustTellGap = false }
        if let owed { effects += readBack(message, owed, answers, at: now) }
        if message.number >= greeting { effects += greetingIsRead(at: now) }
        return effects
    }

    /// All that was written before this connection is known, and what was on its way and did not come is written again.
    private mutating func greetingIsRead(at now: LedgerMoment) -> [LedgerEffect] {
        guard phase == .reading else { return [] }
        var effects: [LedgerEffect] = []
        var again = isReadingAgain ? lostMessages() : []
        for own in owed where own.message.id.replica != name || own.message.number < greeting {
            guard let lasting = own.message.lasting else {
                effects += own.waiters.compactMap { $0 }.flatMap { written($0, at: now) }
                continue
            }
            if !again.contains(where: { $0.message.id == lasting.id }) { again.append(own) }
        }
        (isReadingAgain, missing) = (false, [])
        owed = again
        for index in owed.indices {
            let body = owed[index].body ?? owed[index].message.encoded
            owed[index].body = body
            owed[index].publishedAt = nil
            effects.append(.publish(number: nil, body: body))
        }
        phase = .rewriting(Set(owed.map(\.message.id)))
        if owed.isEmpty { join(at: now) }
        return effects
    }

    /// What the stream has lost and this replica still holds, in the order in which it stood there.
    private func lostMessages() -> [Owed] {
        var messages: [LedgerMessage] = []
        func add(_ id: LedgerMessage.ID, _ writer: String, _ at: Int64, _ records: [LedgerRecord]) {
            guard missing.contains(id), !kept.contains(where: { $0.id == id }) else { return }
            messages.append(
                LedgerMessage(replica: id.replica, writer: writer, number: id.number, at: at, records: records)
            )
        }
        if let pause = state.fleet.pause {
            add(pause.message, pause.writer, pause.at, [.pause(reason: pause.reason)])
        }
        if let closed = state.fleet.closure {
            let record = LedgerRecord.closed(
                reason: closed.reason,
                milliseconds: closed.milliseconds,
                isHeld: closed.isHeld
            )
            add(closed.message, closed.writer, closed.at, [record])
        }
        // Begun longer ago than messages are kept.
        let begun = Dictionary(grouping: submitting.values) { $0.begun }
        for (id, jobs) in begun.sorted(by: { $0.key.number < $1.key.number }) {
            let jobs = jobs.sorted { $0.request.id < $1.request.id }
            add(id, options.writer, jobs.map(\.at).min() ?? 0, jobs.map { .begin($0.request) })
        }
        return (messages + kept.filter { missing.contains($0.id) }).map { Owed(message: $0) }
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
    private mutating func note(stranger user: String, _ body: [UInt8], at now: LedgerMoment) -> [LedgerEffect] {
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

extension LedgerMessage {
    /// What of it still means something after the stream has lost it; nil if nothing does.
    var lasting: LedgerMessage? {
        var message = self
        message.records = records.filter(\.outlivesStream)
        return message.records.isEmpty ? nil : message
    }
}

extension LedgerRecord {
    /// Whether it still means something after the stream has lost it.
    var outlivesStream: Bool {
        switch self {
        case .begin, .end, .settled, .abandon, .closed, .opened, .pause, .resume, .followed: true
        case .hello, .bye, .gap, .known, .slots, .probe, .alive, .unknown: false
        }
    }
}
