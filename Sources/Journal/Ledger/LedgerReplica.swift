import DequeModule

/// One replica's part in the ledger, without I/O: what it writes, what it waits for, and what it has read.
///
/// The caller publishes the messages that it makes, hands in what was read, and tells the time. Whoever waits for a record
/// does so under a number, `Token`, and is told by an `Event`.
package struct LedgerReplica: Sendable {
    package typealias Token = Int

    /// Something that somebody waits for.
    package enum Event: Hashable, Sendable {
        /// The own `begin` was read back, with the answer that the order of the stream gives it.
        case answered(Token, LedgerState.Answer)
        /// Another own record was read back: all others can know of it.
        case written(Token)
    }

    private struct Pending: Sendable {
        let record: LedgerRecord
        let token: Token?
        /// Whether it is to be in the stream again before anything else is let go.
        var isRewrite = false
    }

    /// How far this replica is on its connection.
    private enum Phase: Equatable {
        /// The greeting was not read back.
        case greeting
        /// What it still holds of a lost stream is written again; the message with the last of it, once that is sent.
        case rewriting(last: Int64?)
        case upToDate
    }

    private struct Sent: Sendable {
        let message: LedgerMessage
        let tokens: [Token?]
    }

    /// At most so many records per message: some 100 KiB, which one frame of the broker's default size holds.
    private static let mostRecords = 400
    /// Own messages that are kept, to be written again if a broker has lost the stream's end.
    private static let mostKept = 256

    /// The replica's name, which no other process ever has.
    package let name: String
    private let writer: String
    private let retention: Int64
    private let budget: (images: Int, period: Int64)?

    /// What all records that were read add up to.
    package private(set) var state: LedgerState
    /// The message that was read last.
    package private(set) var lastRead: (replica: String, number: Int64, offset: Int64)?
    private var outbox: Deque<Pending> = []
    /// Published, and not confirmed yet.
    ///
    /// One at a time: what comes meanwhile goes out together.
    private var sent: Sent?
    /// Not read back yet, by number.
    private var unread: [Int64: Sent] = [:]
    /// Own messages that were read back, oldest first.
    private var kept: Deque<LedgerMessage> = []
    /// Jobs that this replica is submitting, with what it asked for and the offset that says so.
    private var submitting: [String: (request: JournalRequest, offset: Int64)] = [:]
    private var lastNumber: Int64 = -1
    private var greeting: Int64 = -1
    /// Whether what was known of a lost stream does not stand in the new one yet.
    package private(set) var isStartingOver = false
    /// Whether the connection before ended while a lost stream was written again.
    private var wasRewriting = false
    private var phase = Phase.greeting
    /// The number of the first message after `startOver`, and the last one before it that the stream still has.
    private var firstAfterLoss: Int64 = .max
    private var lastSurvivor: Int64 = -1
    /// Whether everything was read that had been written when the connection was made, and is in the stream what this replica
    /// knows.
    package var isUpToDate: Bool { phase == .upToDate }
    private var lastToken = 0

    package init(name: String, writer: String, retention: Int64, budget: (images: Int, period: Int64)? = nil) {
        self.name = name
        self.writer = writer
        self.retention = retention
        self.budget = budget
        state = LedgerState(retention: retention, budget: budget)
    }

    /// Submissions of this replica that are under way.
    package var inFlight: Int { submitting.count }

    // MARK: - Asking and writing

    /// The answer to a request as far as the ledger was read; nothing is written.
    package func answer(to request: JournalRequest, at now: Int64) -> LedgerState.Answer {
        state.answer(to: request, by: name, at: now)
    }

    /// Passes over a message that does not count.
    package mutating func skip() {
        state.skip()
    }

    /// Forgets what is older than the retention.
    package mutating func sweep(now: Int64) {
        state.sweep(now: now)
    }

    /// Whether this replica is still the one that is submitting a job, as far as the ledger was read.
    package func isSubmitting(_ id: String) -> Bool {
        guard let mine = submitting[id] else { return false }
        return state.isHeld(id, by: .init(replica: name, offset: mine.offset))
    }

    /// Leaves a record to be written; the token's event comes once it was read back.
    @discardableResult
    package mutating func write(_ record: LedgerRecord) -> Token {
        lastToken += 1
        outbox.append(Pending(record: record, token: lastToken))
        return lastToken
    }

    /// Gives up a `begin` that nobody waits for any more: nothing was submitted.
    package mutating func withdraw(_ token: Token, of id: String) {
        if let index = outbox.firstIndex(where: { $0.token == token }) {
            outbox.remove(at: index)
            endRewriting()
            return
        }
        submitting[id] = nil
        write(.end(id: id, .released))
    }

    /// Whether there is something to be published, and nothing is on its way.
    package var maySend: Bool { sent == nil && (isUpToDate ? !outbox.isEmpty : phase != .greeting && isRewriteNext) }

    private var isRewriteNext: Bool { outbox.first?.isRewrite == true }

    /// The next message to be published; nil if one is on its way, or there is nothing to say.
    ///
    /// None before the greeting was read back: what a lost connection has left unsaid comes first.
    package mutating func next(at now: Int64) -> LedgerMessage? {
        guard maySend else { return nil }
        let isRewriting = !isUpToDate
        let batch = Array(outbox.prefix(Self.mostRecords).prefix { $0.isRewrite || !isRewriting })
        outbox.removeFirst(batch.count)
        let message = send(batch.map(\.record), batch.map(\.token), at: now)
        if isRewriting, !isRewriteNext { phase = .rewriting(last: message.number) }
        return message
    }

    /// Nothing is left to be written again.
    private mutating func endRewriting() {
        if phase == .rewriting(last: nil), !isRewriteNext { phase = .upToDate }
    }

    /// Own records that were published and not read back yet, for the simulation.
    package var unreadRecords: [LedgerRecord] { unread.values.flatMap(\.message.records) }

    /// A message to be published before all that waits, on a new connection.
    ///
    /// Until it is read back the replica is not up to date. A message that was on its way on the old connection is given up:
    /// if it is not read before the greeting, it is written again under another number, and nobody applies the old one.
    package mutating func greet(_ records: [LedgerRecord], at now: Int64) -> LedgerMessage {
        let message = send(records, records.map { _ in nil }, at: now)
        greeting = message.number
        wasRewriting = wasRewriting || phase != .upToDate && phase != .greeting
        phase = .greeting
        return message
    }

    private mutating func send(_ records: [LedgerRecord], _ tokens: [Token?], at now: Int64) -> LedgerMessage {
        lastNumber += 1
        let message = LedgerMessage(replica: name, writer: writer, number: lastNumber, at: now, records: records)
        let sent = Sent(message: message, tokens: tokens)
        self.sent = sent
        unread[message.number] = sent
        return message
    }

    /// The broker has a message.
    package mutating func confirmed(_ number: Int64) {
        if sent?.message.number == number { sent = nil }
    }

    // MARK: - Reading

    /// Applies a message of the stream.
    package mutating func read(_ message: LedgerMessage, at offset: Int64) -> [Event] {
        // A connection that goes on begins with what the last one ended with.
        if let lastRead, offset <= lastRead.offset { return [] }
        lastRead = (message.replica, message.number, offset)
        let isNew = !state.hasApplied(message)
        let answers = state.apply(message, at: offset)
        guard message.replica == name else { return [] }
        if message.number < firstAfterLoss { lastSurvivor = max(lastSurvivor, message.number) }
        confirmed(message.number)
        var lost: [Event] = []
        if message.number == greeting { lost = greeted() }
        if phase == .rewriting(last: message.number) { phase = .upToDate }
        guard isNew, let own = unread.removeValue(forKey: message.number) else { return lost }
        keep(message, answers)
        if kept.count > Self.mostKept { kept.removeFirst() }
        return lost + events(message.records, own.tokens, answers, offset)
    }

    /// The greeting was read back: all that was written before this connection is known.
    private mutating func greeted() -> [Event] {
        // What this replica still holds of a lost stream comes before whatever waits: nobody else may know it.
        let lost = writeLostRecords(
            after: isStartingOver ? lastSurvivor : .max,
            asRewrites: isStartingOver || wasRewriting
        )
        (isStartingOver, wasRewriting) = (false, false)
        phase = .rewriting(last: nil)
        endRewriting()
        return lost
    }

    /// Keeps an own message, to be written again if the stream is lost; without the `begin`s that lost their race, which
    /// would win it then.
    private mutating func keep(_ message: LedgerMessage, _ answers: [LedgerState.Answer]) {
        var answers = answers.makeIterator()
        var message = message
        message.records = message.records.filter { record in
            guard case .begin = record else { return true }
            guard case .begun? = answers.next()?.answer else { return false }
            return true
        }
        kept.append(message)
    }

    private mutating func events(
        _ records: [LedgerRecord],
        _ tokens: [Token?],
        _ answers: [LedgerState.Answer],
        _ offset: Int64
    ) -> [Event] {
        var events: [Event] = []
        var answers = answers.makeIterator()
        for (record, token) in zip(records, tokens) {
            switch record {
            case .begin(let request):
                guard let answer = answers.next() else { continue }
                if case .begun = answer.answer { submitting[request.id] = (request, offset) }
                if let token { events.append(.answered(token, answer)) }
            case .end(let id, _):
                submitting[id] = nil
                if let token { events.append(.written(token)) }
            default:
                if let token { events.append(.written(token)) }
            }
        }
        return events
    }

    // MARK: - A stream that is not the one that was read

    /// Forgets what was read: the stream was deleted, or has lost its end.
    ///
    /// It is to be read from its beginning.
    package mutating func startOver() {
        state = LedgerState(retention: retention, budget: budget)
        lastRead = nil
        // Once more before the first was done: what is missing is still what was before that.
        if !isStartingOver { firstAfterLoss = phase == .greeting ? greeting : lastNumber + 1 }
        isStartingOver = true
        lastSurvivor = -1
    }

    /// Writes again what will not be read any more: what was published before the greeting and did not come before it, and
    /// what the stream has lost, which are the messages after `number`, and what was begun longer ago than messages are kept.
    ///
    /// Who waits for one of them goes on waiting for the new one.
    private mutating func writeLostRecords(after number: Int64, asRewrites isRewrite: Bool) -> [Event] {
        var lost: [Pending] = []
        var events: [Event] = []
        let known = kept.filter { $0.number > number }.map { Sent(message: $0, tokens: $0.records.map { _ in nil }) }
        kept.removeAll { $0.number > number }
        let messages = Dictionary(known.map { ($0.message.number, $0) }) { one, _ in one }
            .merging(unread) { _, own in own }
        for own in messages.values.sorted(by: { $0.message.number < $1.message.number })
        where own.message.number < greeting {
            unread[own.message.number] = nil
            for (record, token) in zip(own.message.records, own.tokens) {
                if record.outlivesStream {
                    lost.append(Pending(record: record, token: token, isRewrite: isRewrite))
                } else if let token {
                    events.append(.written(token))
                }
            }
        }
        if isStartingOver {
            let begunAgain = Set(lost.compactMap(\.record.begun))
            let stillBegun = submitting.filter { id, _ in !begunAgain.contains(id) && !isSubmitting(id) }
            lost =
                stillBegun.values.map { Pending(record: .begin($0.request), token: nil, isRewrite: isRewrite) } + lost
        }
        for pending in lost.reversed() { outbox.prepend(pending) }
        return events
    }
}

extension LedgerRecord {
    /// The job that it begins; nil if it is another record.
    fileprivate var begun: String? {
        if case .begin(let request) = self { request.id } else { nil }
    }

    /// Whether it still means something after the stream has lost it.
    fileprivate var outlivesStream: Bool {
        switch self {
        case .begin, .end, .settled, .abandon, .slots, .closed, .opened, .pause, .resume, .followed: true
        case .hello, .bye, .born, .known, .probe, .alive, .unknown: false
        }
    }
}
