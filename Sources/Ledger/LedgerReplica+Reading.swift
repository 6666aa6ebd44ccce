import DequeModule
import EditJob
import Journal
import SharedValues

// What comes of the stream: whether it is the one that was read, what each message changes, and what is written again.

extension LedgerReplica {
    /// Our own are some 100 KiB; what is larger cannot be ours, and is not parsed.
    private static let largestMessage = 1 << 20

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
        if !hasCompared {
            // The stream may have dropped its oldest messages.
            while let oldest = expected.first, oldest.offset < offset { expected.removeFirst() }
            hasCompared = true
        }
        guard let next = expected.first, next.offset >= offset else { return false }
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
        reads += 1
        if isNew {
            for case .withdrawn(let id, _) in message.records { withdrawn.note(id, at: reads, now.monotonic) }
        }
        if isReadingAgain { missing.remove(message.id) }
        let answers = state.apply(message, at: offset)
        if !message.records.contains(where: \.mayBeWrittenAgain) { anchor = offset }
        if isNew { keep(message, answers) } else { state.found(message, at: offset) }
        // A newcomer has looked at the job queue after all that it reads up to its greeting.
        let isHistory = phase.isReading && !wasReady
        if isNew, !isHistory, message.replica != name, message.records.contains(.gap) {
            // What was delivered before may stand in what the other one has read and this one has not.
            losses += 1
            forgetWitnesses(at: now)
        }
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
        let hasOpened = isOwn && message.records.contains { $0.kind == "opened" }
        effects += tellFleet(hasOpened: hasOpened)
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
            case .alive(let report) where !phase.isReading && state.stands(report.read):
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
        guard phase.isReading else { return [] }
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
        messages += state.standingOrders.filter { missing.contains($0.id) }
        // Begun longer ago than messages are kept.
        let begun = Dictionary(grouping: submitting.values) { $0.begun }
        for (id, jobs) in begun.sorted(by: { $0.key.number < $1.key.number }) {
            let jobs = jobs.sorted { $0.request.id < $1.request.id }
            add(id, options.writer, jobs.map(\.at).min() ?? 0, jobs.map { .begin($0.request) })
        }
        return (messages + kept.filter { missing.contains($0.id) }).map { Owed(message: $0) }
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
        case .begin, .end, .settled, .abandon, .withdrawn, .cancel, .lift, .closed, .opened, .pause, .resume, .followed:
            true
        case .hello, .bye, .gap, .known, .slots, .probe, .alive, .unknown: false
        }
    }

    /// Whether the fold tells what of it stands: an order may be about more jobs than records are kept.
    var standsInFold: Bool { if case .cancel = self { true } else { false } }

    /// Whether a replica may write it again, also one of a later version whose record this one cannot read.
    var mayBeWrittenAgain: Bool {
        if case .unknown = self { true } else { outlivesStream }
    }
}
