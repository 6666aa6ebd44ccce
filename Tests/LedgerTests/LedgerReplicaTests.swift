import EditJob
import Journal
import SharedValues
import TestSupport
import Testing

@testable import Ledger

/// One replica's part, told by events: the stream and its broker are a list.
struct LedgerReplicaTests {
    /// A broker that answers at once, and a shell that does what it is told.
    private struct World {
        var replica: LedgerReplica
        var stream: [[UInt8]] = []
        var first = 0
        var jobs = LedgerEvent.JobQueue.seen(ready: 0, consumers: 0)
        var now = 0
        var link = 0
        var next = 0
        var isReading = false
        /// What is published and not in the stream yet, unless `isHeld`.
        var outgoing: [(number: Int64?, body: [UInt8])] = []
        var isHeld = false
        var answers: [LedgerEvent.Waiter: LedgerEffect.Answer] = [:]
        var told: [FleetChange] = []
        private let start = ContinuousClock.now

        init(_ name: String = "a", _ change: (inout LedgerReplica.Options) -> Void = { _ in }) {
            var options = LedgerReplica.Options(
                name: name,
                writer: "h:1",
                greeting: LedgerGreeting(version: "1", settings: [:]),
                startedAt: 0,
                retention: .seconds(1 << 30),
                patience: .seconds(40)
            )
            change(&options)
            replica = LedgerReplica(options)
        }

        mutating func tell(_ event: LedgerEvent) {
            let moment = LedgerMoment(monotonic: start + .milliseconds(now), wall: 1_700_000_000_000 + Int64(now))
            for effect in replica.handle(event, at: moment) {
                switch effect {
                case .inspectJobs: tell(.sawJobs(jobs, link: link))
                case .greet(let number, let body):
                    stream.append(body)
                    tell(.confirmed(number, link: link))
                case .look(let offset):
                    let message = message(at: max(Int(offset), first))
                    tell(.saw(message?.id, at: message == nil ? nil : max(offset, Int64(first)), link: link))
                case .lookFirst: tell(.sawFirst(Int64(first), link: link))
                case .consume(let offset):
                    (next, isReading) = (offset.map { Int($0) } ?? first, true)
                    tell(.reads(link: link))
                case .publish(let number, let body): outgoing.append((number, body))
                case .flushSoon: tell(.flush)
                case .fetch(let id, let offset, let waiter):
                    let acceptance = message(at: Int(offset)).flatMap { Acceptance(of: id, in: $0) }
                    tell(.fetched(acceptance, isAnswer: true, waiter))
                case .answer(let waiter, let answer): answers[waiter] = answer
                case .tell(let change): told.append(change)
                case .needsName: tell(.named("fresh"))
                default: break
                }
            }
        }

        func message(at offset: Int) -> LedgerMessage? {
            stream.indices.contains(offset - first) ? try? LedgerMessage(parsing: stream[offset - first]) : nil
        }

        /// Lets everything come that is on its way.
        mutating func settle() {
            while true {
                if !isHeld, !outgoing.isEmpty {
                    let (number, body) = outgoing.removeFirst()
                    stream.append(body)
                    if let number { tell(.confirmed(number, link: link)) }
                } else if isReading, max(next, first) < first + stream.count {
                    next = max(next, first)
                    next += 1
                    tell(.read(stream[next - 1 - first], user: "u", at: Int64(next - 1), link: link))
                } else {
                    return
                }
            }
        }

        mutating func connect() {
            link += 1
            (isReading, outgoing) = (false, [])
            tell(.connected(link: link, user: "u"))
            settle()
            // What the reading was to begin with is looked for if it does not come; a stream that is another one is read anew.
            if !replica.expected.isEmpty { wait(4) }
            if replica.phase == .away { connect() }
        }

        mutating func cut() {
            tell(.disconnected(link: link, isSilent: false))
            (isReading, outgoing) = (false, [])
        }

        /// The stream is deleted, and made again by the next one.
        mutating func lose() {
            cut()
            (stream, first) = ([], 0)
        }

        mutating func wait(_ seconds: Int) {
            for _ in 0..<seconds * 4 {
                now += 250
                tell(.tick(gate: nil, isBlocked: false))
                settle()
            }
        }

        /// Another replica, or somebody, writes.
        mutating func write(_ records: [LedgerRecord], by name: String, _ number: Int64) {
            let message = LedgerMessage(
                replica: name,
                writer: "h:2",
                number: number,
                at: 1_700_000_000_000 + Int64(now),
                records: records
            )
            stream.append(message.encoded)
        }

        /// The report of another replica that has read the stream to its end.
        func report(inFlight: Int = 0) -> LedgerRecord {
            var report = LedgerReport(version: "1", since: 0, inFlight: inFlight)
            let last = first + stream.count - 1
            report.read = message(at: last).map { LedgerMessage.Place($0.id, at: Int64(last)) }
            return .alive(report)
        }

        /// What is said to a job that wants to be submitted; nil as long as it waits.
        mutating func begin(
            _ id: String,
            content: String? = nil,
            isInDoubt: Bool = false,
            replay: Int64 = 0,
            isAllowed: Bool = false
        ) -> PriorSubmission? {
            var request = JournalRequest(id: id, digest: BodyDigest(Array((content ?? id).utf8)))
            request.replay = replay
            request.acceptsDoubleCharge = isAllowed
            request.mayBeSubmittedElsewhere = isInDoubt
            let waiter = answers.count + 1000 * (link + 1) + now
            tell(.wants(request, waiter))
            settle()
            guard case .job(let answer)? = answers[waiter] else { return nil }
            return answer
        }

        mutating func accept(_ id: String) {
            tell(.writes(.end(id: id, .accepted(taskID: "t-\(id)")), nil))
            settle()
        }

        var records: [LedgerRecord] {
            stream.compactMap { try? LedgerMessage(parsing: $0) }.flatMap(\.records)
        }

        var moment: LedgerMoment { LedgerMoment(monotonic: start + .milliseconds(now), wall: 0) }
    }

    private static let greeting = LedgerRecord.hello(LedgerGreeting(version: "1", settings: [:]))

    private static func accepted(_ id: String) -> PriorSubmission {
        .accepted(
            taskID: "t-\(id)",
            attempts: 1,
            mayBeDuplicate: false,
            at: Timestamp(milliseconds: 1_700_000_000_000)
        )
    }

    @Test func `what a lost stream held is written again before anything is let go`() {
        var world = World()
        world.connect()
        // More than one message holds.
        for index in 0..<300 {
            #expect(world.begin("job-\(index)") == .never)
            world.accept("job-\(index)")
        }
        #expect(world.begin("open") == .never)
        world.lose()
        world.isHeld = true
        world.connect()
        // What comes meanwhile waits behind it.
        #expect(!world.replica.isReady && world.begin("new") == nil)
        world.isHeld = false
        world.settle()
        #expect(world.replica.isReady)
        var newcomer = World("b")
        newcomer.stream = world.stream
        newcomer.connect()
        for index in 0..<300 {
            let answer = newcomer.replica.state.answer(
                to: JournalRequest(id: "job-\(index)", digest: BodyDigest(Array("job-\(index)".utf8))),
                by: "b",
                at: 0
            )
            guard case .ended(.accepted, _, _) = answer.prior else {
                return #expect(Bool(false), "job-\(index) is not known")
            }
        }
        #expect(world.replica.maySubmit("open", at: world.moment))
        #expect(newcomer.replica.state.isHeld("open", by: .init(replica: "a", number: 602)))
    }

    @Test func `a begin that lost its race is not written again, where it would win`() {
        var world = World()
        world.connect()
        // The other one's comes first, and is not read yet.
        let request = JournalRequest(id: "job", digest: BodyDigest(Array("job".utf8)))
        world.isReading = false
        world.write([.begin(request)], by: "b", 0)
        #expect(world.begin("job") == nil)
        world.isReading = true
        world.settle()
        #expect(world.answers.values.contains(.job(.running)))
        world.lose()
        world.connect()
        let begins = world.stream.compactMap { try? LedgerMessage(parsing: $0) }
            .filter { $0.records.contains { $0.kind == "begin" } }
        #expect(begins.map(\.replica) == ["b"])
    }

    @Test func `a question is answered by all that stood before it, and begins nothing`() {
        var world = World()
        world.connect()
        var request = JournalRequest(id: "job", digest: BodyDigest(Array("job".utf8)))
        world.isReading = false
        world.write([.begin(request)], by: "b", 0)
        request.isQuestion = true
        world.tell(.wants(request, 1))
        world.settle()
        #expect(world.answers[1] == nil)
        world.isReading = true
        world.settle()
        #expect(world.answers[1] == .job(.running))
        request.id = "other"
        world.tell(.wants(request, 2))
        world.settle()
        #expect(world.answers[2] == .job(.never))
        #expect(world.records.count { $0.kind == "begin" } == 1)
        // Where nothing comes back, nothing is said.
        world.isHeld = true
        world.tell(.wants(request, 3))
        world.wait(12)
        #expect(world.answers[3] == .fault(LedgerReplica.silent))
    }

    @Test func `what the broker has taken out of the queue does not begin where it was delivered before`() {
        var world = World()
        world.connect()
        var request = JournalRequest(id: "job", digest: BodyDigest(Array("job".utf8)))
        request.readsAtDelivery = world.replica.reads
        world.write([.withdrawn(id: "job", replay: 0)], by: "b", 0)
        // Whether it is read before the job asks, or between its `begin` and the answer.
        for isRead in [true, false] {
            if isRead { world.settle() }
            let waiter = isRead ? 1 : 2
            world.tell(.wants(request, waiter))
            world.settle()
            #expect(world.answers[waiter] == .job(.withdrawn))
            #expect(!world.replica.maySubmit("job", at: world.moment))
            #expect(world.replica.state.progress(of: "job") == .notSubmitted, "its begin is taken back")
            world.write([.withdrawn(id: "job", replay: 0)], by: "b", isRead ? 1 : 2)
        }
        world.settle()
        // A later delivery is another publication.
        request.readsAtDelivery = world.replica.reads
        world.tell(.wants(request, 3))
        world.settle()
        #expect(world.answers[3] == .job(.never))
    }

    @Test func `more withdrawn jobs than are remembered are told apart by when they came`() {
        var jobs = WithdrawnJobs()
        let start = ContinuousClock.now
        for number in 1...300_000 { jobs.note("job-\(number)", at: number, start) }
        // Of the oldest it is not known any more which jobs they were.
        #expect(jobs.contains("job-1", after: 0) && jobs.contains("other", after: 0))
        #expect(jobs.contains("job-250000", after: 249_999) && !jobs.contains("job-250000", after: 250_000))
        #expect(!jobs.contains("other", after: 150_000))
        // After a time that no lost connection goes unnoticed, nothing can be meant.
        var old = WithdrawnJobs()
        old.note("old", at: 1, start)
        old.note("new", at: 2, start + .seconds(1000))
        #expect(!old.contains("old", after: 0) && old.contains("new", after: 1) && !old.contains("other", after: 0))
    }

    @Test func `a job that was cancelled ends so, unless it had begun`() {
        var world = World()
        world.connect()
        #expect(world.begin("early") == .never)
        #expect(world.begin("done") == .never)
        world.accept("done")
        world.write(
            [.cancel([CancelledJob(id: "early"), CancelledJob(id: "done"), CancelledJob(id: "late")], reason: "typo")],
            by: "operator",
            0
        )
        world.settle()
        #expect(world.replica.maySubmit("early", at: world.moment), "its request may be on its way")
        world.accept("early")
        #expect(world.begin("early") == Self.accepted("early") && world.begin("done") == Self.accepted("done"))
        let cancelled = Verdict(JobFailure.cancelled(by: "h:2", reason: "typo"))
        #expect(world.begin("late") == .ended(cancelled, attempts: 0))
        #expect(world.replica.state.isCancelled("late") && !world.replica.state.isCancelled("early"))
        // A replay is another decision, and so is the order to lift it.
        #expect(world.begin("late", replay: 1) == .never)
        world.accept("late")
        world.write([.cancel([CancelledJob(id: "other")], reason: "")], by: "operator", 1)
        world.write([.lift([LiftedJob(id: "other", digest: BodyDigest(Array("other".utf8)))])], by: "operator", 2)
        world.settle()
        // What waits under the id with another content is still what was cancelled, before and after.
        #expect(world.begin("other", content: "wrong") != .never)
        #expect(world.begin("other") == .never)
        world.accept("other")
        let conflict = Verdict.refused(.idConflict)
        #expect(world.begin("other", content: "wrong") == .ended(conflict, attempts: 0))
    }

    @Test func `a replay that waits is cancelled whatever has become of the job, and a later one is not`() {
        var world = World()
        world.connect()
        #expect(world.begin("job") == .never)
        world.tell(.writes(.end(id: "job", .failed(JobFailure(.outcomeUnknown, "?", charged: .maybe))), nil))
        world.settle()
        world.write([.cancel([CancelledJob(id: "job")], reason: "")], by: "operator", 0)
        world.settle()
        #expect(!world.replica.state.isCancelled("job"), "it has its end, and its replay is a person's decision")
        world.write([.cancel([CancelledJob(id: "job", replay: 1)], reason: "")], by: "operator", 1)
        world.settle()
        let cancelled = Verdict(JobFailure.cancelled(by: "h:2", reason: "", charged: .maybe))
        #expect(world.begin("job", replay: 1, isAllowed: true) == .ended(cancelled, attempts: 0, mayBeDuplicate: true))
        #expect(world.begin("job", replay: 2, isAllowed: true) == .possible(attempts: 0))
    }

    @Test func `a cancelled job that expires has met its order`() {
        var world = World()
        world.connect()
        world.write([.cancel([CancelledJob(id: "job")], reason: "")], by: "operator", 0)
        world.settle()
        var question = JournalRequest(id: "job", digest: BodyDigest(Array("job".utf8)))
        question.isQuestion = true
        world.tell(.wants(question, 1))
        world.settle()
        #expect(world.answers[1] == .job(.ended(Verdict(JobFailure.cancelled(by: "h:2", reason: "")), attempts: 0)))
        #expect(world.begin("job", replay: 1) == .never)
    }

    @Test func `an order to cancel that is not read yet counts, and one that was lifted does not`() {
        var world = World()
        world.connect()
        world.isReading = false
        world.write([.cancel([CancelledJob(id: "job")], reason: "")], by: "operator", 0)
        #expect(world.begin("job") == nil)
        world.isReading = true
        world.settle()
        let cancelled = Verdict(JobFailure.cancelled(by: "h:2", reason: ""))
        #expect(world.answers.values.contains(.job(.ended(cancelled, attempts: 0))))
        #expect(world.replica.state.progress(of: "job") == .notSubmitted)
        world.isReading = false
        world.write([.lift([LiftedJob(id: "job", digest: BodyDigest(Array("job".utf8)))])], by: "operator", 1)
        let before = world.answers.count
        #expect(world.begin("job") == nil, "what was read last is not the last word")
        world.isReading = true
        world.settle()
        #expect(world.answers.count == before + 1 && world.answers.values.contains(.job(.never)))
    }

    @Test func `an earlier attempt that may have been accepted is said of a cancelled job`() {
        var world = World()
        world.connect()
        #expect(world.begin("job") == .never)
        world.tell(.writes(.end(id: "job", .retrying(attempts: 1)), nil))
        world.settle()
        world.write([.cancel([CancelledJob(id: "job")], reason: "")], by: "operator", 0)
        world.settle()
        let maybe = Verdict(JobFailure.cancelled(by: "h:2", reason: "", charged: .maybe))
        #expect(world.begin("job") == .ended(maybe, attempts: 1, mayBeDuplicate: true))
        // So it is of one in doubt, whose doubt outlives the order.
        world.write([.cancel([CancelledJob(id: "old")], reason: "")], by: "operator", 1)
        world.settle()
        guard case .ended(.unknown(let failure), _, _)? = world.begin("old", isInDoubt: true) else {
            return #expect(Bool(false))
        }
        #expect(failure.code == .cancelled)
        world.write([.lift([LiftedJob(id: "old", digest: BodyDigest(Array("old".utf8)))])], by: "operator", 2)
        world.settle()
        #expect(world.begin("old") == .ended(.unknown(.unfinished), attempts: 1))
    }

    @Test func `an order to cancel outlives the loss of the stream`() {
        var world = World()
        world.connect()
        world.write([.cancel([CancelledJob(id: "met"), CancelledJob(id: "unmet")], reason: "")], by: "operator", 0)
        world.settle()
        #expect(world.begin("met") != .never)
        world.lose()
        world.connect()
        var newcomer = World("b")
        newcomer.stream = world.stream
        newcomer.connect()
        func answer(_ job: String, replay: Int64 = 0) -> PriorSubmission {
            var request = JournalRequest(id: job, digest: BodyDigest(Array(job.utf8)))
            request.replay = replay
            return newcomer.replica.state.answer(to: request, by: "b", at: 0).prior
        }
        for job in ["met", "unmet"] { #expect(!answer(job).allowsSubmission, "\(job)") }
        #expect(answer("met", replay: 1) == .never, "it is known that a job has met it")
    }

    @Test func `what became of an order outlives the loss of the stream's end, where the order itself stands`() {
        var world = World()
        world.connect()
        world.write([.cancel(["met", "lifted"].map { CancelledJob(id: $0) }, reason: "")], by: "operator", 0)
        world.settle()
        let count = world.stream.count
        #expect(world.begin("met") != .never)
        world.write([.lift([LiftedJob(id: "lifted", digest: BodyDigest(Array("lifted".utf8)))])], by: "operator", 1)
        world.settle()
        world.cut()
        world.stream.removeLast(world.stream.count - count)
        world.connect()
        var newcomer = World("b")
        newcomer.stream = world.stream
        newcomer.connect()
        func answer(_ job: String, replay: Int64) -> PriorSubmission {
            var request = JournalRequest(id: job, digest: BodyDigest(Array(job.utf8)))
            request.replay = replay
            return newcomer.replica.state.answer(to: request, by: "b", at: 0).prior
        }
        #expect(answer("met", replay: 0) != .never && answer("met", replay: 1) == .never)
        #expect(answer("lifted", replay: 0) == .never)
    }

    @Test func `a stream that is lost again while it is written loses nothing more`() {
        var world = World()
        world.connect()
        for index in 0..<200 {
            #expect(world.begin("job-\(index)") == .never)
            world.accept("job-\(index)")
        }
        for round in 0..<3 {
            world.lose()
            world.isHeld = true
            world.connect()
            // A part of it, and then the connection ends.
            world.stream += world.outgoing.prefix(20 * round).map(\.body)
            world.settle()
            #expect(!world.replica.isReady)
        }
        world.lose()
        world.isHeld = false
        world.connect()
        #expect(world.replica.isReady)
        let ends = Set(world.records.compactMap { if case .end(let id, _) = $0 { id } else { nil } })
        #expect(ends.count == 200)
    }

    @Test func `an acceptance is found where it stands in a stream that was made again`() {
        var world = World()
        world.connect()
        for id in ["a", "b", "c"] {
            #expect(world.begin(id) == .never)
            world.accept(id)
        }
        world.lose()
        world.connect()
        #expect(world.begin("b") == Self.accepted("b"))
        // One whose record is gone for good is unknown, and not new.
        world.cut()
        world.stream[world.stream.count - 1] =
            LedgerMessage(
                replica: "x",
                writer: "",
                number: 0,
                at: 0,
                records: [.bye]
            )
            .encoded
        world.connect()
        #expect(world.begin("c") != .never)
    }

    // MARK: - What may come back

    @Test func `a stream of which nobody has said what it covers puts what comes back in doubt`() {
        var world = World()
        world.jobs = .seen(ready: 3, consumers: 0)
        world.connect()
        #expect(world.replica.isReady && !world.replica.isCovered)
        // One that comes for the first time ends it, since nobody held any.
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(world.replica.isCovered)
    }

    @Test func `as long as somebody may hold a delivery it ends only when the broker has taken all of them back`() {
        var world = World { $0.consumerTimeout = .seconds(100) }
        world.jobs = .seen(ready: 0, consumers: 1)
        world.connect()
        #expect(!world.replica.isReady)
        world.wait(41)
        #expect(world.replica.isReady && !world.replica.isCovered)
        world.tell(.delivered(wasBefore: false))
        world.wait(50)
        #expect(!world.replica.isCovered)
        world.wait(60)
        #expect(world.replica.isCovered)
    }

    @Test func `a queue that forgets who holds deliveries is not believed that nobody does`() {
        var world = World {
            $0.countsHolders = false
            $0.consumerTimeout = .seconds(100)
        }
        world.connect()
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(world.replica.isReady && !world.replica.isCovered)
        world.jobs = .seen(ready: 0, consumers: 1)
        world.wait(101)
        #expect(world.replica.isCovered)
    }

    @Test func `a newcomer is covered if the stream still has all that may come back`() {
        var world = World()
        world.connect()
        #expect(world.begin("job") == .never)
        world.accept("job")
        world.wait(15)
        for (cut, isCovered) in [(0, true), (world.stream.count - 1, false)] {
            var newcomer = World("b")
            newcomer.jobs = .seen(ready: 1, consumers: 1)
            newcomer.stream = Array(world.stream.dropFirst(cut))
            newcomer.first = cut
            newcomer.connect()
            #expect(newcomer.replica.isCovered == isCovered)
            // Those who know more are heard first.
            #expect(newcomer.replica.isReady == isCovered)
        }
    }

    @Test func `what was delivered long ago is known to have come back, however much of the stream is cut off`() {
        var world = World { $0.consumerTimeout = .seconds(60) }
        world.connect()
        world.jobs = .seen(ready: 0, consumers: 1)
        world.wait(200)
        let known = world.replica.state.knownFrom ?? 0
        #expect(known > 0)
        var newcomer = World("b")
        newcomer.jobs = .seen(ready: 1, consumers: 1)
        newcomer.stream = Array(world.stream.dropFirst(Int(known)))
        newcomer.first = Int(known)
        newcomer.connect()
        #expect(newcomer.replica.isCovered && newcomer.replica.isReady)
    }

    @Test func `a gap is told first, ends what was known, and nobody starts before those who live were heard`() {
        var world = World()
        world.connect()
        world.write([Self.greeting], by: "b", 0)
        world.settle()
        #expect(world.replica.isCovered)
        world.lose()
        world.connect()
        let kinds = world.records.map(\.kind)
        #expect(kinds.filter { $0 == "gap" }.count == 1)
        #expect(!world.replica.isCovered && !world.replica.isReady)
        world.write([Self.greeting], by: "b", 1)
        world.settle()
        #expect(!world.replica.isReady)
        // That of an old connection, which speaks of the stream that was lost.
        world.write([.alive(LedgerReport(version: "1", since: 0, inFlight: 0))], by: "b", 2)
        world.settle()
        #expect(!world.replica.isReady)
        world.write([world.report()], by: "b", 3)
        world.settle()
        #expect(world.replica.isReady)
    }

    @Test func `a pause and a closure survive the stream`() {
        var world = World()
        world.connect()
        world.write([.pause(reason: "price")], by: "operator", 0)
        world.write([.closed(reason: "credits", milliseconds: 60_000, isHeld: false)], by: "b", 7)
        world.settle()
        // Longer ago than messages are kept.
        for index in 0..<1100 {
            world.write([.settled(id: "x-\(index)")], by: "c", Int64(index))
        }
        world.settle()
        world.lose()
        world.connect()
        var newcomer = World("n")
        newcomer.stream = world.stream
        newcomer.connect()
        #expect(newcomer.replica.state.fleet.pause?.reason == "price")
        #expect(newcomer.replica.state.fleet.closure?.message == .init(replica: "b", number: 7))
    }

    // MARK: - Others

    @Test func `a stream whose end others have replaced before the reading is another one`() {
        var world = World()
        world.connect()
        #expect(world.begin("j") == .never)
        world.accept("j")
        world.cut()
        let length = world.stream.count
        world.link += 1
        world.tell(.connected(link: world.link, user: "u"))
        #expect(world.isReading)
        // The end goes, and others have written as much since.
        world.stream.removeLast(world.stream.count - length + 1)
        world.write([.settled(id: "x")], by: "o", 1)
        world.write([.settled(id: "y")], by: "o", 2)
        world.settle()
        world.cut()
        world.connect()
        #expect(world.records.contains(.gap))
        #expect(world.records.contains { $0 == .end(id: "j", .accepted(taskID: "t-j")) })
    }

    @Test func `a loss is found though others have written the last message again where it stood`() {
        var world = World()
        world.connect()
        // Of somebody who does not live any more.
        world.write([.begin(JournalRequest(id: "theirs", digest: BodyDigest([1]))), Self.greeting], by: "dead", 1)
        world.write([.end(id: "theirs", .accepted(taskID: "t-theirs"))], by: "dead", 2)
        world.settle()
        #expect(world.begin("j") == .never)
        world.accept("j")
        world.cut()
        // All of it is lost, and another that had not read the dead one's has written what it had.
        let lost = world.stream.suffix(3)
        world.stream.removeLast(3)
        world.write([.gap, Self.greeting], by: "o", 1)
        world.stream += lost.suffix(2)
        world.connect()
        #expect(world.records.contains { $0 == .end(id: "theirs", .accepted(taskID: "t-theirs")) })
    }

    @Test func `what only a later version can read proves nothing of what stands before it`() {
        var world = World()
        world.connect()
        world.write([.end(id: "theirs", .accepted(taskID: "t")), Self.greeting], by: "dead", 1)
        world.write([.begin(JournalRequest(id: "theirs", digest: BodyDigest([1])))], by: "dead", 2)
        world.write([.unknown(kind: "later")], by: "o", 1)
        world.settle()
        world.cut()
        let later = world.stream.suffix(1)
        world.stream.removeLast(2)
        world.write([.gap, Self.greeting], by: "o", 2)
        world.stream += later
        world.connect()
        #expect(world.records.contains { if case .begin(let request) = $0 { request.id == "theirs" } else { false } })
    }

    @Test func `messages that the stream has dropped, and such as did not count, are no loss`() {
        var world = World()
        world.connect()
        #expect(world.begin("j") == .never)
        world.stream.append(Array("not a record".utf8))
        world.accept("j")
        world.cut()
        (world.stream, world.first) = (Array(world.stream.dropFirst(2)), 2)
        world.connect()
        #expect(world.replica.isReady && !world.records.contains(.gap))
    }

    @Test func `who has greeted is answered at once`() {
        var world = World()
        world.connect()
        world.wait(1)
        let count = world.records.filter { $0.kind == "alive" }.count
        world.write([Self.greeting], by: "b", 0)
        world.settle()
        world.wait(1)
        #expect(world.records.filter { $0.kind == "alive" }.count == count + 1)
    }

    @Test func `a job of one that is silent for long enough is given up, by the message that began it`() {
        var world = World()
        world.connect()
        let request = JournalRequest(id: "job", digest: BodyDigest(Array("job".utf8)))
        world.write([Self.greeting, .begin(request)], by: "b", 0)
        world.settle()
        world.wait(35)
        #expect(world.begin("job") == .running)
        world.wait(20)
        #expect(world.begin("job") == .unknown(attempts: 1))
        let abandoned = world.records.contains(.abandon(id: "job", begun: .init(replica: "b", number: 0)))
        #expect(abandoned)
    }

    @Test func `a replica that has slept submits nothing before it has heard of itself`() {
        var world = World()
        world.connect()
        world.wait(15)
        #expect(world.begin("job") == .never)
        #expect(world.replica.maySubmit("job", at: world.moment))
        world.now += 60_000
        #expect(!world.replica.maySubmit("job", at: world.moment))
        world.wait(11)
        #expect(world.replica.maySubmit("job", at: world.moment))
    }

    @Test
    func `a record that does not come back ends the connection, unless the broker has said that it does not read`() {
        var world = World()
        world.connect()
        world.wait(1)
        world.isHeld = true
        for _ in 0..<200 {
            world.now += 250
            world.tell(.tick(gate: nil, isBlocked: true))
        }
        #expect(!world.told.contains(.silent))
        for _ in 0..<90 {
            world.now += 250
            world.tell(.tick(gate: nil, isBlocked: false))
        }
        #expect(world.told.contains(.silent) && !world.replica.isReady)
    }

    @Test func `a replica whose report does not come back submits nothing, also if no job has asked`() {
        var world = World()
        world.connect()
        world.wait(1)
        #expect(world.begin("under way") == .never)
        world.wait(10)
        world.isHeld = true
        world.wait(21)
        #expect(!world.replica.isReady && !world.replica.maySubmit("under way", at: world.moment))
        #expect(world.begin("new") == nil)
        world.told = []
        world.isHeld = false
        world.settle()
        world.wait(1)
        #expect(world.replica.isReady && world.told.contains(.ready))
        #expect(world.begin("newer") == .never)
    }

    @Test func `a stream that is silent before the replica is ready ends the connection too`() {
        var world = World()
        world.link = 1
        world.tell(.connected(link: 1, user: "u"))
        // The greeting is there, and nothing comes.
        for _ in 0..<100 {
            world.now += 250
            world.tell(.tick(gate: nil, isBlocked: false))
        }
        #expect(world.told.contains(.silent))
    }

    @Test func `a greeting that a leader has lost is not waited for as long as a stream that is read`() {
        var world = World()
        _ = world.replica.handle(.connected(link: 1, user: "u"), at: world.moment)
        let greeting = world.replica.handle(.sawJobs(.missing, link: 1), at: world.moment)
        #expect(greeting.contains { if case .greet = $0 { true } else { false } })
        world.now = 7500
        #expect(!world.replica.handle(.tick(gate: nil, isBlocked: false), at: world.moment).contains(.leave))
        world.now = 8250
        let effects = world.replica.handle(.tick(gate: nil, isBlocked: false), at: world.moment)
        #expect(effects.contains(.leave))
        // The connections of the jobs may be fine.
        #expect(!effects.contains(.tell(.silent)))
    }

    @Test func `what an old connection still brings counts for nothing`() {
        var world = World()
        world.connect()
        world.cut()
        world.write([.pause(reason: "late")], by: "b", 0)
        let body = world.stream[world.stream.count - 1]
        world.tell(.read(body, user: "u", at: Int64(world.stream.count - 1), link: world.link))
        #expect(world.replica.state.fleet.pause == nil)
        world.connect()
        #expect(world.replica.state.fleet.pause?.reason == "late")
    }

    @Test func `a pause that was taken back while nobody read is told`() {
        var world = World()
        world.connect()
        world.write([.pause(reason: "p")], by: "o", 0)
        world.settle()
        #expect(world.told.last == .paused)
        world.cut()
        world.write([.resume(pause: .init(replica: "o", number: 0))], by: "p", 0)
        world.connect()
        #expect(world.told.suffix(2) == [.resumed, .ready])
    }

    @Test func `the goodbye carries what was not written yet`() {
        var world = World()
        world.connect()
        world.isHeld = true
        world.tell(.writes(.settled(id: "one"), nil))
        world.tell(.writes(.settled(id: "two"), nil))
        world.tell(.closes)
        let last = world.outgoing.last.flatMap { try? LedgerMessage(parsing: $0.body) }
        #expect(last?.records == [.settled(id: "two"), .bye])
    }

    @Test func `an acceptance that stood behind the end of a stream that was made again is unknown at once`() {
        var world = World()
        world.connect()
        #expect(world.begin("job") == .never)
        world.accept("job")
        // More than is kept.
        for index in 0..<1100 {
            world.write([.settled(id: "x-\(index)")], by: "c", Int64(index))
        }
        world.settle()
        #expect(world.begin("late") == .never)
        world.accept("late")
        for index in 0..<1100 {
            world.write([.settled(id: "x-\(index)")], by: "d", Int64(index))
        }
        world.settle()
        world.lose()
        world.connect()
        #expect(world.replica.state.count == 2 && world.stream.count < 1100)
        #expect(world.begin("late") == .unknown(attempts: 1))
    }

    @Test func `a delivery that came before the stream was lost is in doubt after it`() {
        var world = World()
        world.connect()
        #expect(world.replica.isCovered)
        var request = JournalRequest(id: "job", digest: BodyDigest(Array("job".utf8)))
        request.lossesAtDelivery = world.replica.losses
        world.lose()
        world.connect()
        world.tell(.wants(request, 7))
        world.settle()
        guard case .job(.ended(.unknown(let failure), _, _))? = world.answers[7] else {
            return #expect(Bool(false), "\(String(describing: world.answers[7]))")
        }
        #expect(failure.code == .outcomeUnknown)
    }

    @Test func `a job queue that nobody reads proves nothing to who has lost the stream`() {
        var world = World()
        world.jobs = .seen(ready: 3, consumers: 0)
        world.connect()
        world.tell(.delivered(wasBefore: false))
        world.wait(4)
        #expect(world.replica.isCovered)
        world.lose()
        world.jobs = .seen(ready: 1, consumers: 0)
        world.connect()
        world.jobs = .seen(ready: 0, consumers: 1)
        world.wait(60)
        #expect(world.replica.isReady && !world.replica.isCovered)
    }

    @Test func `what was on its way when the doubt ended is in doubt still`() {
        var world = World()
        world.jobs = .seen(ready: 3, consumers: 0)
        world.connect()
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(world.replica.isCovered && world.replica.doubtsDeliveries(at: world.moment))
        world.wait(4)
        #expect(!world.replica.doubtsDeliveries(at: world.moment))
    }

    @Test func `as long as a delivery in doubt may have no end nobody says that all have come back`() {
        var world = World()
        world.jobs = .seen(ready: 3, consumers: 0)
        world.connect()
        world.tell(.delivered(wasBefore: true))
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(!world.replica.isCovered)
        world.wait(41)
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(world.replica.isCovered)
    }

    @Test func `a gap that another has found ends what was seen of the job queue`() {
        var world = World { $0.consumerTimeout = .seconds(60) }
        world.connect()
        world.jobs = .seen(ready: 1, consumers: 1)
        world.wait(70)
        world.write([.gap], by: "b", 0)
        world.settle()
        #expect(!world.replica.isCovered)
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(!world.replica.isCovered)
        world.wait(61)
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(world.replica.isCovered)
    }

    @Test func `a queue that seems to have no consumer at all is not believed to be empty`() {
        var world = World { $0.consumerTimeout = .seconds(60) }
        world.jobs = .seen(ready: 1, consumers: 1)
        world.connect()
        world.wait(41)
        // Without a leader it says so, although this replica itself consumes from it.
        world.jobs = .seen(ready: 0, consumers: 0)
        world.wait(120)
        #expect(!world.replica.isCovered)
        world.jobs = .seen(ready: 0, consumers: 1)
        world.wait(10)
        #expect(world.replica.isCovered)
    }

    @Test func `offsets that are used again after a lost tail are read`() {
        var world = World()
        world.connect()
        // Nobody's: it counts for nothing, and is the last one that was read.
        world.stream.append(Array("rubbish".utf8))
        world.settle()
        world.cut()
        world.stream.removeLast()
        world.link += 1
        world.tell(.connected(link: world.link, user: "u"))
        world.write([.pause(reason: "new")], by: "b", 0)
        world.settle()
        #expect(world.replica.isReady && world.replica.state.fleet.pause?.reason == "new")
    }

    @Test func `those who know are not taken for heard because newcomers report`() {
        var world = World()
        world.jobs = .seen(ready: 1, consumers: 2)
        world.connect()
        #expect(!world.replica.isReady)
        world.write([world.report()], by: "b", 0)
        world.settle()
        #expect(!world.replica.isReady)
        var waiting = world
        waiting.wait(41)
        #expect(waiting.replica.isReady)
        // One that had read the stream before it was lost speaks for all.
        world.write([.gap, Self.greeting], by: "c", 5)
        world.write([world.report()], by: "c", 6)
        world.settle()
        #expect(world.replica.isReady)
    }

    @Test func `a goodbye ends the wait for a replica, and one that is still reading says it too`() {
        var world = World()
        world.jobs = .seen(ready: 1, consumers: 2)
        world.write([Self.greeting], by: "b", 0)
        world.connect()
        #expect(!world.replica.isReady)
        world.write([.bye], by: "b", 1)
        world.settle()
        #expect(world.replica.isReady)
        var reading = World("r")
        reading.tell(.connected(link: 0, user: "u"))
        reading.tell(.closes)
        let last = reading.outgoing.last.flatMap { try? LedgerMessage(parsing: $0.body) }
        #expect(last?.records == [.bye])
    }

    @Test func `a replica that goes on where it stopped waits for nobody, covered or not`() {
        var world = World { $0.consumerTimeout = .seconds(1000) }
        world.jobs = .seen(ready: 1, consumers: 1)
        world.connect()
        world.write([Self.greeting], by: "dead", 0)
        world.wait(41)
        #expect(world.replica.isReady && !world.replica.isCovered)
        world.cut()
        world.connect()
        #expect(world.replica.isReady)
    }

    @Test func `what was seen of the job queue is said once the doubt allows it, without another job`() {
        var world = World()
        world.jobs = .seen(ready: 3, consumers: 0)
        world.connect()
        world.tell(.delivered(wasBefore: true))
        world.tell(.delivered(wasBefore: false))
        world.settle()
        world.jobs = .seen(ready: 0, consumers: 1)
        world.wait(30)
        #expect(!world.replica.isCovered)
        world.wait(20)
        #expect(world.replica.isCovered)
    }

    @Test func `a stream that takes nothing ends only the connection of the ledger, and says so once`() {
        var world = World()
        world.link = 1
        _ = world.replica.handle(.connected(link: 1, user: "u"), at: world.moment)
        for _ in 0..<100 {
            world.now += 250
            world.tell(.tick(gate: nil, isBlocked: false))
        }
        #expect(!world.told.contains(.silent) && !world.replica.isReady)
        world.tell(.disconnected(link: 1, isSilent: true))
        #expect(!world.told.contains(.silent))
    }

    @Test func `a gap of long ago does not undo what a newcomer has seen of the job queue`() {
        var world = World()
        world.jobs = .seen(ready: 3, consumers: 0)
        world.write([.gap, Self.greeting], by: "b", 0)
        world.write([.bye], by: "b", 1)
        world.connect()
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(world.replica.isCovered)
    }

    // MARK: - Another process under the same name

    @Test func `a copy of a running machine takes another name, and begins anew`() {
        var world = World()
        world.connect()
        #expect(world.begin("old") == .never)
        let copied = world.replica
        #expect(world.begin("j") == .never)
        let original = world.replica
        // The copy wants the same job, and does not know that the original has begun it.
        world.replica = copied
        world.next -= 1
        world.now += 1
        #expect(world.begin("j") == nil)
        #expect(world.replica.inFlight == 0, "what was under way is the original's")
        #expect(!world.replica.maySubmit("old", at: world.moment))
        world.cut()
        world.connect()
        world.write([world.report(inFlight: 2)], by: "a", original.lastNumber + 1)
        world.settle()
        #expect(world.begin("j") == .running)
        #expect(world.begin("k") == .never)
        // A delivery that is redelivered is in doubt: this process has seen it come under the other name.
        #expect(world.replica.losses == 1)
        #expect(original.inFlight == 2)
        let names = Set(world.stream.compactMap { try? LedgerMessage(parsing: $0).id.replica })
        #expect(names == ["a", "fresh"])
    }

    @Test func `a record under a number that was given to a greeting which never came is another process's`() {
        var world = World()
        world.connect()
        world.wait(1)
        // The greeting with the next number is lost with its connection.
        let lost = world.replica.lastNumber + 1
        world.link += 1
        _ = world.replica.handle(.disconnected(link: world.link - 1, isSilent: false), at: world.moment)
        _ = world.replica.handle(.connected(link: world.link, user: "u"), at: world.moment)
        _ = world.replica.handle(.disconnected(link: world.link, isSilent: false), at: world.moment)
        world.connect()
        #expect(world.replica.lastNumber > lost)
        world.write([.begin(JournalRequest(id: "theirs", digest: BodyDigest(Array("theirs".utf8))))], by: "a", lost)
        world.settle()
        world.cut()
        world.connect()
        world.wait(61)
        // Held by nobody who lives: it does not wait for as long as this replica does.
        #expect(world.begin("theirs") == .unknown(attempts: 1))
    }

    @Test func `the own opening is not told to the gate, which may have closed again since`() {
        var world = World()
        world.connect()
        world.write([.closed(reason: "credits", milliseconds: 60_000, isHeld: false)], by: "o", 1)
        world.settle()
        world.told = []
        world.tell(.opened)
        world.settle()
        #expect(world.replica.state.fleet.closure == nil && !world.told.contains(.opened))
        world.write([.closed(reason: "credits", milliseconds: 60_000, isHeld: false)], by: "o", 2)
        world.write([.opened(closure: .init(replica: "o", number: 2))], by: "o", 3)
        world.settle()
        #expect(world.told.contains(.opened))
    }

    @Test func `while the fleet is paused no job goes out, also none that the ledger does not know`() {
        var world = World()
        world.connect()
        #expect(world.begin("j") == .never)
        #expect(world.replica.maySubmit("j", at: world.moment) && world.replica.maySubmit(nil, at: world.moment))
        world.write([.pause(reason: "price")], by: "o", 1)
        world.settle()
        #expect(!world.replica.maySubmit("j", at: world.moment) && !world.replica.maySubmit(nil, at: world.moment))
    }

    @Test func `a closure that ends while a replica begins anew is told`() {
        var world = World()
        world.connect()
        world.write([.closed(reason: "credits", milliseconds: 60_000, isHeld: false)], by: "b", 0)
        world.settle()
        world.write([.settled(id: "x")], by: "a", .max)
        world.settle()
        world.told = []
        world.write([.opened(closure: .init(replica: "b", number: 0))], by: "b", 1)
        world.cut()
        world.connect()
        world.wait(41)
        #expect(world.told.contains(.opened), "\(world.told)")
    }

    @Test func `a record under the own name with a number that was never given makes nobody deaf`() {
        var world = World()
        world.connect()
        world.write([.settled(id: "x")], by: "a", .max)
        world.settle()
        world.cut()
        world.connect()
        #expect(world.begin("j") == .never)
    }

    @Test func `what another has written again without a begin that lost its race is still the own message`() throws {
        var world = World()
        world.connect()
        world.isHeld = true
        world.tell(.writes(.settled(id: "x"), nil))
        // Both wait for the message before, and go out in one.
        world.tell(.wants(JournalRequest(id: "j", digest: BodyDigest([1])), 7))
        world.tell(.wants(JournalRequest(id: "k", digest: BodyDigest([2])), 8))
        let before = world.outgoing.removeFirst()
        world.stream.append(before.body)
        world.tell(.confirmed(before.number ?? -1, link: world.link))
        // Another process has read it, and has written it again after its place was lost.
        var message = try LedgerMessage(parsing: #require(world.outgoing.first).body)
        #expect(message.records.map(\.kind) == ["begin", "begin"])
        message.records.removeFirst()
        world.stream.append(message.encoded)
        world.settle()
        #expect(world.answers[7] == nil)
        #expect(world.answers[8] == .job(.never))
        // The begin that is missing had lost its race: it is asked for again.
        world.isHeld = false
        world.settle()
        #expect(world.answers[7] == .job(.never))
    }

    @Test func `a newer version stops a replica until the stream has dropped its messages`() {
        var world = World()
        world.connect()
        world.stream.append(Array(#"{"v":2,"replica":"x","n":0,"at":1,"records":[]}"#.utf8))
        world.settle()
        #expect(!world.replica.isReady)
        world.wait(301)
        #expect(!world.replica.isReady)
        world.first = world.stream.count
        world.stream = []
        world.wait(301)
        #expect(world.replica.isReady)
    }

    @Test func `what others have given up is not submitted any more`() {
        var world = World()
        world.connect()
        #expect(world.begin("j") == .never)
        #expect(world.replica.maySubmit("j", at: world.moment))
        let begun = LedgerMessage.ID(replica: "a", number: world.replica.lastNumber)
        world.write([.abandon(id: "j", begun: begun)], by: "b", 0)
        world.settle()
        #expect(!world.replica.maySubmit("j", at: world.moment))
    }

    @Test func `a gap is told again though that of an earlier loss is read back`() {
        var world = World()
        world.connect()
        world.lose()
        world.connect()
        world.wait(20)
        #expect(world.records.filter { $0 == .gap }.count == 1)
        // Its last records are lost, and then the greeting that tells of that.
        world.cut()
        world.stream.removeLast()
        world.link += 1
        world.tell(.connected(link: world.link, user: "u"))
        world.stream.removeLast(2)
        for second in 0..<60 {
            world.write([.settled(id: "x")], by: "b", Int64(second))
            world.wait(1)
            if world.replica.phase == .away { world.connect() }
        }
        #expect(world.records.filter { $0 == .gap }.count == 2)
    }

    @Test func `who reads less than others knew is not sure because nobody holds a delivery`() {
        var world = World()
        // One that has read the stream before it was cut may have given jobs back as copies, and died.
        (world.jobs, world.first) = (.seen(ready: 4, consumers: 0), 3)
        world.write([Self.greeting], by: "b", 0)
        var report = LedgerReport(version: "1", since: 0, inFlight: 0)
        (report.known, report.read) = (0, .init(.init(replica: "b", number: 0), at: 3))
        world.write([.alive(report)], by: "b", 1)
        world.connect()
        world.wait(41)
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(world.replica.isReady && !world.replica.isCovered)
        world.wait(1801)
        world.tell(.delivered(wasBefore: false))
        world.settle()
        #expect(world.replica.isCovered)
    }

    @Test func `a begin that is written again behind its release is released again`() throws {
        var world = World()
        world.connect()
        world.isHeld = true
        #expect(world.begin("j") == nil)
        // The broker confirms it, and a policy cuts it off before it is read.
        let begin = world.outgoing.removeFirst()
        world.tell(.confirmed(try #require(begin.number), link: world.link))
        world.isHeld = false
        world.wait(11)
        #expect(world.records.contains(.end(id: "j", .released)))
        world.cut()
        world.connect()
        #expect(world.records.last(where: { $0.kind == "begin" }) != nil)
        #expect(world.replica.inFlight == 0)
        #expect(world.begin("j") == .never)
    }

    @Test func `after a gap, a begin that has lost is taken back for those to whom it has won`() {
        var world = World()
        world.connect()
        world.lose()
        world.connect()
        world.isHeld = true
        #expect(world.begin("j") == nil)
        world.write([.begin(JournalRequest(id: "j", digest: BodyDigest([1])))], by: "b", 0)
        world.isHeld = false
        world.settle()
        #expect(world.records.contains(.end(id: "j", .released)))
    }

    @Test func `a greeting that is cut off before it is read is written again, though others write`() {
        var world = World()
        world.link = 1
        // Greets, hears that the broker has it, and wants to read.
        world.tell(.connected(link: 1, user: "u"))
        (world.stream, world.first) = ([], 1)
        for second in 0..<60 {
            world.write([.settled(id: "x")], by: "b", Int64(second))
            world.wait(1)
        }
        #expect(world.replica.isReady)
    }
}

/// Its rows would fill the report of a failure.
extension LedgerReplica: CustomTestStringConvertible {
    package var testDescription: String { "a replica" }
}

extension LedgerState: CustomTestStringConvertible {
    package var testDescription: String { "a state" }
}
