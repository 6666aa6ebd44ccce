import EditJob
import JSON
import Journal
import Ledger
import SharedValues
import TestSupport
import Testing

/// The fold, as a table of what replicas say and what is true then.
struct LedgerStateTests {
    private static let hour: Int64 = 3_600_000
    /// When all messages are written.
    private static let moment = Timestamp(milliseconds: 1_000_000_000)

    /// A ledger that is written and read without a broker.
    private struct Ledger {
        var state = LedgerState(retention: 72 * LedgerStateTests.hour)
        var offset: Int64 = -1
        var numbers: [String: Int64] = [:]

        @discardableResult
        mutating func write(
            _ records: [LedgerRecord],
            by replica: String = "a",
            at: Int64 = 1_000_000_000
        ) -> [LedgerState.Answer] {
            offset += 1
            numbers[replica, default: -1] += 1
            return state.apply(message(records, by: replica, at: at), at: offset)
        }

        func message(_ records: [LedgerRecord], by replica: String, at: Int64) -> LedgerMessage {
            LedgerMessage(replica: replica, writer: "h:1", number: numbers[replica] ?? 0, at: at, records: records)
        }

        /// Where the last message stands.
        var place: LedgerMessage.Place {
            LedgerMessage.Place(.init(replica: "a", number: numbers["a"] ?? 0), at: offset)
        }

        /// What the ledger knows of a job; nil if that is over the budget.
        func ask(_ request: JournalRequest, at: Int64 = 1_000_000_000) -> PriorSubmission? {
            let answer = state.answer(to: request, by: "x", at: at)
            return answer.isOverBudget ? nil : answer.prior
        }
    }

    private static func request(_ id: String = "j", _ body: String = "b", again: Bool = false) -> JournalRequest {
        var request = JournalRequest(id: id, digest: BodyDigest(Array(body.utf8)))
        request.takesVerdict = again
        return request
    }

    @Test func `a date that nobody confirms does not free the budget, nor forget who lives`() {
        var ledger = Ledger()
        ledger.state = LedgerState(retention: 72 * Self.hour, budget: (images: 2, period: Self.hour))
        let now: Int64 = 1_000_000_000
        let report = LedgerRecord.alive(LedgerReport(version: "1", since: 0, inFlight: 0))
        func isOver(at date: Int64) -> Bool { ledger.ask(Self.request("n"), at: date) == nil }
        ledger.write([report], by: "right", at: now)
        ledger.write([.begin(Self.request("j"))], by: "right", at: now)
        ledger.write([.begin(Self.request("k"))], by: "right", at: now)
        #expect(isOver(at: now))
        // A forged record, or a wrong clock: the next one contradicts it.
        let ahead = now + 1000 * Self.hour
        let begun = ledger.write(
            [.hello(LedgerGreeting(version: "1", settings: [:])), .begin(Self.request("l"))],
            by: "wrong",
            at: ahead
        )
        #expect(begun.map(\.isOverBudget) == [true])
        for _ in 0..<5 {
            ledger.write([report], by: "wrong", at: ahead)
            ledger.write([report], by: "right", at: now + 1000)
        }
        #expect(isOver(at: now + 2000))
        #expect(isOver(at: ahead))
        #expect(ledger.state.fleet.members["right"] != nil)
        // After a stop of the fleet two say so, or one that is alone says it three times.
        ledger.write([report], by: "new", at: now + 2 * Self.hour)
        #expect(isOver(at: now + 2 * Self.hour))
        ledger.write([report], by: "newer", at: now + 2 * Self.hour + 5)
        #expect(!isOver(at: now + 2 * Self.hour))
        ledger.write([.begin(Self.request("m")), .begin(Self.request("o"))], by: "new", at: now + 2 * Self.hour)
        for turn in 0..<3 {
            #expect(isOver(at: now + 5 * Self.hour), "\(turn)")
            ledger.write([report], by: "new", at: now + 5 * Self.hour + Int64(turn) * 10_000)
        }
        #expect(!isOver(at: now + 5 * Self.hour))
    }

    @Test func `a date that was too late is set back, and what was spent under it with it`() {
        var ledger = Ledger()
        ledger.state = LedgerState(retention: 72 * Self.hour, budget: (images: 1, period: Self.hour))
        let now: Int64 = 1_000_000_000
        let report = LedgerRecord.alive(LedgerReport(version: "1", since: 0, inFlight: 0))
        ledger.write([.begin(Self.request("j"))], by: "wrong", at: now + 1000 * Self.hour)
        ledger.write([.end(id: "j", .accepted(taskID: "t"))], by: "wrong", at: now + 1000 * Self.hour)
        for turn in 0..<3 as Range<Int64> { ledger.write([report], by: "right", at: now + turn * 10_000) }
        #expect(ledger.ask(Self.request("k"), at: now + 20_000) == nil)
        for turn in 1...63 { ledger.write([report], by: "right", at: now + Int64(turn) * 59_000) }
        #expect(ledger.ask(Self.request("k"), at: now + 63 * 59_000) == .never)
    }

    @Test func `replicas on one host whose clock is wrong do not empty the budget by contradicting the others`() {
        var ledger = Ledger()
        ledger.state = LedgerState(retention: 72 * Self.hour, budget: (images: 1, period: 24 * Self.hour))
        let now: Int64 = 1_000_000_000
        let report = LedgerRecord.alive(LedgerReport(version: "1", since: 0, inFlight: 0))
        ledger.write([.begin(Self.request("j"))], by: "a1", at: now)
        ledger.write([.end(id: "j", .accepted(taskID: "t"))], by: "a1", at: now)
        for turn in 0..<100 as Range<Int64> {
            for name in ["w1", "w2"] { ledger.write([report], by: name, at: now + Self.hour + turn * 10_000) }
            for name in ["a1", "a2"] { ledger.write([report], by: name, at: now + turn * 10_000) }
        }
        #expect(ledger.ask(Self.request("k"), at: now + 1_000_000) == nil)
        #expect(ledger.state.fleet.members.count == 4)
    }

    @Test func `what a replica begins after a stop, before its date is believed, was not begun before the stop`() {
        var ledger = Ledger()
        ledger.state = LedgerState(retention: 72 * Self.hour, budget: (images: 1, period: 24 * Self.hour))
        let (before, after) = (Int64(1_000_000_000), 1_000_000_000 + 30 * Self.hour)
        let report = LedgerRecord.alive(LedgerReport(version: "1", since: 0, inFlight: 0))
        ledger.write([report], by: "old", at: before)
        ledger.write([report, .begin(Self.request("j"))], by: "new", at: after)
        for turn in 1...3 as ClosedRange<Int64> { ledger.write([report], by: "new", at: after + turn * 10_000) }
        #expect(ledger.ask(Self.request("k"), at: after + 30_000) == nil)
    }

    @Test func `reports that come at once because a gate changes confirm no date`() {
        var ledger = Ledger()
        ledger.state = LedgerState(retention: 72 * Self.hour, budget: (images: 1, period: Self.hour))
        let now: Int64 = 1_000_000_000
        let report = LedgerRecord.alive(LedgerReport(version: "1", since: 0, inFlight: 0))
        ledger.write([.begin(Self.request("j"))], by: "right", at: now)
        for turn in 0..<5 as Range<Int64> { ledger.write([report], by: "wrong", at: now + 30 * Self.hour + turn) }
        #expect(ledger.ask(Self.request("k"), at: now + 1000) == nil)
    }

    @Test func `a begin that is over the budget is known until its writer takes it back`() {
        var ledger = Ledger()
        ledger.state = LedgerState(retention: 72 * Self.hour, budget: (images: 1, period: Self.hour))
        ledger.write([.begin(Self.request("j"))], by: "a")
        // Its writer has another budget, or knows less of what was spent, and submits it.
        #expect(ledger.write([.begin(Self.request("k"))], by: "a").map(\.isOverBudget) == [true])
        #expect(ledger.ask(Self.request("k")) == .running)
        ledger.write([.end(id: "k", .accepted(taskID: "t"))], by: "a")
        guard case .ended(.accepted, _, _)? = ledger.ask(Self.request("k")) else {
            Issue.record("\(String(describing: ledger.ask(Self.request("k"))))")
            return
        }
        #expect(ledger.write([.begin(Self.request("l"))], by: "b").map(\.isOverBudget) == [true])
        ledger.write([.end(id: "l", .released)], by: "b")
        #expect(ledger.ask(Self.request("l")) == nil)
    }

    @Test func `of two that begin a job, the first in the stream has it`() {
        var ledger = Ledger()
        #expect(ledger.write([.begin(Self.request())], by: "a").map(\.prior) == [.never])
        let second = ledger.write([.begin(Self.request())], by: "b")
        #expect(second.map(\.prior) == [.running])
        #expect(second.first?.holder == LedgerMessage.ID(replica: "a", number: 0))
        // The end of somebody who has not begun it says nothing.
        ledger.write([.end(id: "j", .accepted(taskID: "t"))], by: "b")
        #expect(ledger.ask(Self.request()) == .running)
        ledger.write([.end(id: "j", .accepted(taskID: "t"))], by: "a")
        let answer = ledger.state.answer(to: Self.request(), by: "x", at: 1_000_000_000)
        #expect(answer.prior == .accepted(taskID: "", attempts: 1, mayBeDuplicate: false, at: Self.moment))
        #expect(answer.acceptedAt == 3)
    }

    @Test func `an acceptance behind the record that gave the job up is late, and its replica's to tell`() {
        var ledger = Ledger()
        ledger.write([.begin(Self.request())], by: "a")
        ledger.write([.abandon(id: "j", begun: .init(replica: "a", number: 0))], by: "b")
        #expect(ledger.state.lateHolder(of: "j") == nil)
        ledger.write([.end(id: "j", .accepted(taskID: "t"))], by: "a")
        #expect(ledger.state.lateHolder(of: "j") == "a")
        // One that came in time is nobody's to tell but of who has the job.
        ledger.write([.begin(Self.request("k"))], by: "a")
        ledger.write([.end(id: "k", .accepted(taskID: "t"))], by: "a")
        ledger.write([.abandon(id: "k", begun: .init(replica: "a", number: 2))], by: "b")
        #expect(ledger.state.lateHolder(of: "k") == nil)
    }

    @Test func `an acceptance keeps its moment, but is never later than its message`() {
        var ledger = Ledger()
        ledger.write([.begin(Self.request())], by: "a")
        let early = Timestamp(milliseconds: Self.moment.milliseconds - 5000)
        ledger.write([.end(id: "j", .accepted(taskID: "t", at: early))], by: "a")
        #expect(ledger.ask(Self.request()) == .accepted(taskID: "", attempts: 1, mayBeDuplicate: false, at: early))
        let future = Timestamp(milliseconds: 1 << 50)
        ledger.write([.begin(Self.request("k")), .end(id: "k", .accepted(taskID: "t", at: future))], by: "a")
        #expect(
            ledger.ask(Self.request("k")) == .accepted(taskID: "", attempts: 1, mayBeDuplicate: false, at: Self.moment)
        )
    }

    @Test func `a replay of an ended task is begun once, with consent`() {
        var ledger = Ledger()
        ledger.write([.begin(Self.request()), .end(id: "j", .accepted(taskID: "t"))], by: "a")
        var replay = Self.request()
        replay.replay = 1
        replay.acceptsDoubleCharge = true
        // Of a job whose task may still bring its images nothing is paid for again.
        #expect(ledger.ask(replay) == .accepted(taskID: "", attempts: 1, mayBeDuplicate: false, at: Self.moment))
        replay.isOfEndedTask = true
        #expect(ledger.ask(replay) == .possible())
        ledger.write([.begin(replay), .end(id: "j", .accepted(taskID: "u"))], by: "a")
        #expect(ledger.ask(replay) == .accepted(taskID: "", attempts: 1, mayBeDuplicate: true, at: Self.moment))
    }

    @Test func `a message that is there twice counts once`() {
        var ledger = Ledger()
        ledger.write([.begin(Self.request())])
        ledger.write([.end(id: "j", .released)])
        ledger.numbers["a"] = -1
        ledger.write([.begin(Self.request())])
        #expect(ledger.ask(Self.request()) == .never)
    }

    @Test func `an abandoned job is in doubt, until its replica says how it ended`() {
        var ledger = Ledger()
        ledger.write([.begin(Self.request())], by: "a")
        ledger.write([.abandon(id: "j", begun: .init(replica: "a", number: 7))], by: "b")
        #expect(ledger.ask(Self.request()) == .running)
        ledger.write([.abandon(id: "j", begun: .init(replica: "a", number: 0))], by: "b")
        #expect(ledger.ask(Self.request()) == .unknown(attempts: 1))
        ledger.write([.end(id: "j", .accepted(taskID: "t"))], by: "a")
        #expect(
            ledger.ask(Self.request()) == .accepted(taskID: "", attempts: 1, mayBeDuplicate: false, at: Self.moment)
        )
    }

    @Test func `what may have been paid is not forgotten when the next submission does not take place`() {
        var ledger = Ledger()
        var request = Self.request()
        request.retriesUnfinished = true
        ledger.write([.begin(request)], by: "a")
        ledger.write([.abandon(id: "j", begun: .init(replica: "a", number: 0))], by: "b")
        #expect(ledger.write([.begin(request)], by: "b").map(\.prior) == [.possible(attempts: 1)])
        ledger.write([.end(id: "j", .released)], by: "b")
        #expect(ledger.ask(request) == .possible(attempts: 1))
    }

    @Test func `a definite no is told to the same delivery and not to a later one`() {
        var ledger = Ledger()
        let no = JobFailure(.apiRejected, "the API's words", httpStatus: 422)
        ledger.write([.begin(Self.request()), .end(id: "j", .failed(no))])
        guard case .ended(.refused(let told), 1, false)? = ledger.ask(Self.request(again: true)) else {
            Issue.record("\(ledger.ask(Self.request(again: true)))")
            return
        }
        #expect(told.code == .apiRejected && told.charged == .no && told.httpStatus == 422)
        #expect(!told.message.contains("words"))
        #expect(ledger.ask(Self.request()) == .never)
        ledger.write([.settled(id: "j")])
        #expect(ledger.ask(Self.request(again: true)) != .never)
        #expect(ledger.ask(Self.request(again: true), at: 1_000_070_000) == .never)
    }

    @Test func `another body under the same id is a conflict, also after a million other jobs`() {
        var ledger = Ledger()
        ledger.write([.begin(Self.request()), .end(id: "j", .accepted(taskID: "t"))])
        for index in 0..<2000 {
            ledger.write([.begin(Self.request("o-\(index)")), .end(id: "o-\(index)", .accepted(taskID: "t"))])
        }
        #expect(ledger.state.count == 2001)
        #expect(ledger.ask(Self.request("j", "other")) == .conflict)
        #expect(
            ledger.ask(Self.request()) == .accepted(taskID: "", attempts: 1, mayBeDuplicate: false, at: Self.moment)
        )
    }

    @Test func `what is older than the retention is forgotten once the stream has dropped it, and not before`() {
        var ledger = Ledger()
        ledger.write([.begin(Self.request()), .end(id: "j", .accepted(taskID: "t"))])
        ledger.write([.begin(Self.request("k"))])
        let later = 1_000_000_000 + 73 * Self.hour
        // By no clock alone: it may be wrong.
        ledger.state.sweep(now: later, first: 0)
        #expect(ledger.state.count == 2 && ledger.ask(Self.request("k"), at: later) == .running)
        // Nor by the stream alone: a policy may have cut it.
        ledger.state.sweep(now: 1_000_000_000, first: 2)
        #expect(ledger.state.count == 2)
        ledger.state.sweep(now: later, first: 1)
        #expect(ledger.state.count == 1)
        ledger.state.sweep(now: later, first: 2)
        #expect(ledger.state.count == 0)
    }

    @Test func `what is known to have come back counts for the stream as it is since the last gap`() {
        var ledger = Ledger()
        ledger.write([.bye])
        #expect(ledger.state.knownFrom == nil)
        ledger.write([.known(from: 4, gap: nil, read: ledger.place)])
        ledger.write([.known(from: 2, gap: nil, read: ledger.place)])
        #expect(ledger.state.knownFrom == 4)
        // Said of a stream that was deleted, where another message had that place.
        let elsewhere = LedgerMessage.Place(.init(replica: "c", number: 0), at: ledger.offset)
        ledger.write([.known(from: 5, gap: nil, read: elsewhere)])
        ledger.write([.known(from: 5, gap: nil, read: nil)])
        #expect(ledger.state.knownFrom == 4)
        let before = ledger.place
        ledger.write([.gap], by: "b")
        let gap = LedgerMessage.ID(replica: "b", number: 0)
        // Said by somebody who had not read of it.
        ledger.write([.known(from: 9, gap: nil, read: before)])
        #expect(ledger.state.knownFrom == nil && ledger.state.gap == gap)
        var report = LedgerReport(version: "1", since: 0, inFlight: 0)
        (report.known, report.gap, report.read) = (7, gap, ledger.place)
        ledger.write([.alive(report)])
        #expect(ledger.state.knownFrom == 7)
    }

    @Test func `a message counts once, also behind later ones of its replica`() {
        var ledger = Ledger()
        func message(_ number: Int64, _ records: [LedgerRecord]) -> LedgerMessage {
            LedgerMessage(replica: "a", writer: "", number: number, at: 0, records: records)
        }
        _ = ledger.state.apply(message(9, [.begin(Self.request("k"))]), at: 0)
        _ = ledger.state.apply(message(7, [.begin(Self.request()), .end(id: "j", .accepted(taskID: "t"))]), at: 1)
        #expect(ledger.state.hasApplied(message(7, [])) && !ledger.state.hasApplied(message(8, [])))
        _ = ledger.state.apply(message(7, [.begin(Self.request("l"))]), at: 2)
        #expect(ledger.ask(Self.request("l")) == .never)
        // A forged number makes nobody deaf.
        _ = ledger.state.apply(message(.max, []), at: 3)
        _ = ledger.state.apply(message(10, [.end(id: "k", .released)]), at: 4)
        #expect(ledger.ask(Self.request("k")) == .never)
    }

    @Test func `an order to go on ends the pause that it names, and no later one`() {
        var ledger = Ledger()
        ledger.write([.pause(reason: "one")], by: "a")
        ledger.write([.pause(reason: "two")], by: "b")
        ledger.write([.resume(pause: .init(replica: "a", number: 0))], by: "c")
        #expect(ledger.state.fleet.pause?.reason == "two")
        ledger.write([.resume(pause: nil)], by: "c")
        #expect(ledger.state.fleet.pause == nil)
    }

    @Test func `numbers that fit no slot are kept all the same`() {
        var ledger = Ledger()
        var request = Self.request()
        request.replay = .max
        request.attempts = 1_000_000
        ledger.write([.begin(request), .end(id: "j", .accepted(taskID: "t"))])
        #expect(
            ledger.ask(request) == .accepted(taskID: "t", attempts: 1_000_000, mayBeDuplicate: false, at: Self.moment)
        )
    }

    private static var report: LedgerReport {
        var report = LedgerReport(version: "1.2.3", since: 1_700_000_000_000, inFlight: 7)
        report.gate = "credits"
        report.paused = ""
        report.pause = .init(replica: "o", number: 0)
        (report.known, report.gap) = (12, .init(replica: "a", number: 4))
        report.read = .init(.init(replica: "b", number: 3), at: 1 << 40)
        (report.user, report.writers) = ("worker", "ops-*")
        report.rate = .init(used: 3, limit: "20/10s")
        report.budget = .init(used: 4, limit: "500/24h")
        return report
    }

    @Test func `every record comes back from its JSON, and an unknown one is kept as such`() async throws {
        let schema = "ledger.schema.json"
        var request = Self.request("j\u{0}é")
        request.replay = 3
        request.images = 6
        request.acceptsDoubleCharge = true
        request.takesVerdict = true
        request.retriesUnfinished = true
        request.mayBeSubmittedElsewhere = true
        let failure = JobFailure.deliveredBefore
        let other = LedgerMessage.ID(replica: "a", number: 4)
        let records: [LedgerRecord] = [
            .begin(request), .begin(Self.request()), .end(id: "j", .accepted(taskID: "t")), .end(id: "j", .released),
            .end(id: "j", .retrying(attempts: 4)), .settled(id: "j"),
            .abandon(id: "j", begun: .init(replica: "a", number: 1 << 40)),
            .hello(LedgerGreeting(version: "1.2.3", settings: ["journal.retention": "72h"])), .bye,
            .gap, .known(from: 7, gap: nil, read: nil), .known(from: 0, gap: other, read: .init(other, at: 9)),
            .slots(20),
            .closed(reason: "credits", milliseconds: 60_000, isHeld: true),
            .probe(closure: other, after: nil), .probe(closure: other, after: other), .opened(closure: other),
            .pause(reason: "price"), .resume(pause: nil), .resume(pause: other), .alive(Self.report),
            .followed(id: "j", taskID: "t", code: nil),
            .followed(id: "j", taskID: "t", code: "follow_timeout"), .unknown(kind: "later"),
        ]
        let message = LedgerMessage(replica: "r", writer: "h:1", number: 7, at: 1_700_000_000_000, records: records)
        #expect(try LedgerMessage(parsing: message.encoded) == message)
        let text = String(decoding: message.encoded, as: UTF8.self)
        #expect(try await SchemaCheck.verdicts(of: [text], by: schema) == [true])
        #expect(try await SchemaCheck.verdicts(of: [#"{"v":1,"records":[]}"#], by: schema) == [false])
        guard case .end(_, let end) = LedgerRecord(LedgerRecord.end(id: "j", .failed(failure)).json),
            let read = end.verdict.failure
        else {
            Issue.record("no end")
            return
        }
        #expect(read.code == failure.code && read.charged == .maybe)
    }

    @Test func `what is known of a message without reading it is what reading it gives`() throws {
        var dice = SeededGenerator(seed: 1)
        var known = 0
        for _ in 0..<2000 {
            let records = (0..<Int.random(in: 1...3, using: &dice)).map { _ in Self.anyRecord(&dice) }
            let time: Int64 = [1 << 40, 1 << 40, -1, 1 << 50, .max].randomElement(using: &dice) ?? 0
            let message = LedgerMessage(replica: "r", writer: "h:1", number: 7, at: time, records: records)
            guard let asRead = message.asRead else { continue }
            known += 1
            #expect(try LedgerMessage(parsing: message.encoded) == asRead)
        }
        #expect(known > 100)
    }

    /// One of those that every job has, mostly; its numbers now and then beyond what is read.
    private static func anyRecord(_ dice: inout SeededGenerator) -> LedgerRecord {
        let id = ["j", "j\u{0}é", "\"\\\n"].randomElement(using: &dice) ?? ""
        func number() -> Int { [1, 2, 1_000_000, 1_000_001, 0, -1, .max].randomElement(using: &dice) ?? 1 }
        switch Int.random(in: 0..<7, using: &dice) {
        case 0...2:
            var request = Self.request(id)
            request.attempts = Bool.random(using: &dice) ? 1 : number()
            request.images = Bool.random(using: &dice) ? 1 : number()
            request.replay = Bool.random(using: &dice) ? 0 : Int64(number())
            request.acceptsDoubleCharge = .random(using: &dice)
            request.takesVerdict = .random(using: &dice)
            request.retriesUnfinished = .random(using: &dice)
            request.mayBeSubmittedElsewhere = .random(using: &dice)
            request.isAnonymous = Int.random(in: 0..<8, using: &dice) == 0
            return .begin(request)
        case 3: return .end(id: id, .accepted(taskID: id))
        case 4: return .end(id: id, .released)
        case 5: return .settled(id: id)
        default:
            return [
                .end(id: id, .failed(.deliveredBefore)), .end(id: id, .retrying(attempts: number())),
                .slots(number()), .bye, .alive(Self.report), .unknown(kind: "later"),
            ]
            .randomElement(using: &dice) ?? .bye
        }
    }

    @Test(arguments: [
        "", "[]", "{}", #"{"v":2,"replica":"r","n":1,"at":1,"records":[]}"#, #"{"v":1,"replica":"r","n":-1,"at":1}"#,
        #"{"v":1,"replica":"r","n":1.5,"at":1,"records":[]}"#,
    ])
    func `what is no message of the ledger is not read`(_ text: String) {
        #expect(throws: LedgerMessage.Unreadable.self) { try LedgerMessage(parsing: Array(text.utf8)) }
    }

    @Test func `hostile numbers in a record never end the program`() throws {
        let text = """
            {"v":1,"replica":"r","n":9223372036854775807,"at":9223372036854775807,"records":[
            {"kind":"begin","job":"j","digest":"\(String(repeating: "f", count: 32))","attempts":9223372036854775807,
            "replay":9223372036854775807,"images":-1},{"kind":"end","job":"j","verdict":"accepted","task_id":"t"},
            {"kind":"abandon","job":"j","begun":{"replica":"r","n":-1}},{"kind":"known","from":9223372036854775807},
            {"kind":"begin","job":"j","digest":"zz"},{"kind":3},7,null]}
            """
        var state = LedgerState(retention: .max)
        _ = state.apply(try LedgerMessage(parsing: Array(text.utf8)), at: .max)
        state.sweep(now: .max, first: .max)
        #expect(state.answer(to: Self.request(), by: "x", at: .min).prior != .running)
    }
}

/// The table against a dictionary.
struct LedgerTableTests {
    @Test(arguments: 0..<20)
    func `it answers as a dictionary does`(_ seed: UInt64) {
        var dice = SeededGenerator(seed: seed)
        var state = LedgerState(retention: 1 << 40)
        // Accepted or refused; a refused one may be begun again.
        var model: [String: Bool] = [:]
        for step in 0..<3000 {
            let id = "job-\(Int.random(in: 0..<400, using: &dice))"
            let request = JournalRequest(id: id, digest: BodyDigest([1]))
            let isAccepted = model[id] == true
            #expect((state.answer(to: request, by: "x", at: 0).prior != .never) == isAccepted)
            guard !isAccepted else { continue }
            let ends: [JobEnd] = [.accepted(taskID: "t"), .failed(JobFailure(.apiRejected, "no")), .released]
            let kind = Int.random(in: 0..<3, using: &dice)
            let message = LedgerMessage(
                replica: "r",
                writer: "",
                number: Int64(step),
                at: 0,
                records: [.begin(request), .end(id: id, ends[kind])]
            )
            _ = state.apply(message, at: Int64(step))
            model[id] = kind == 2 ? nil : kind == 0
            #expect(state.count == model.count)
        }
    }
}
