import EditJob
import Journal
import Ledger
import TestSupport
import Testing

/// Replicas, a broker and an API in one thread, with a clock and a dice: crashes, delays, partitions, freezes and lost
/// records at any point, the same again for the same seed.
///
/// The protocol is the one that ships: `LedgerReplica`, told by events and obeyed in its effects. What is played here is the
/// broker, the account, the job queue, and the few lines of the pipeline around a submission. A `Mutation` breaks one of
/// these, to see whether it is missed.
struct LedgerSimulation {
    enum Mutation: String, CaseIterable, Sendable {
        /// The request is sent without waiting for the answer.
        case submitsBeforeTheAnswer
        /// The delivery is acknowledged before its end is written.
        case settlesBeforeTheEnd
        /// A message that is published twice counts twice.
        case appliesDuplicates
        /// After a new connection the messages that were missed stay unread.
        case readsOnWithNewMessages
        /// It is always said that the stream is the one that was read.
        case neverSeesAnotherStream
        /// What was delivered while nobody knew of it counts as known.
        case ignoresDoubt
        /// A job that was cancelled is submitted all the same.
        case submitsWhatIsCancelled
    }

    /// What a run has done, so that nobody takes an empty one for a proof.
    struct Tally {
        var submissions = 0
        var accepted = 0
        var unknown = 0
        var expired = 0
        var cancelled = 0
        var crashes = 0
        var losses = 0

        static func += (sum: inout Tally, one: Tally) {
            sum.submissions += one.submissions
            sum.accepted += one.accepted
            sum.unknown += one.unknown
            sum.expired += one.expired
            sum.cancelled += one.cancelled
            sum.crashes += one.crashes
            sum.losses += one.losses
        }
    }

    struct Violation: Error, CustomStringConvertible {
        let description: String
    }

    static let apiTimeout = 3_000
    static let patience = 5_000

    /// A message of the job queue, with the headers that a worker has put on it.
    struct Copy {
        let job: Int
        /// Which publication of the job it is, whether it was given back or not.
        var publication = -1
        var wasDelivered = false
        var isInDoubt = false
        var awaitsVerdict = false
    }

    enum Phase {
        case asking
        case waiting(LedgerEvent.Waiter)
        case begun
        case submitted(Int, until: Int)
        /// -3 is a job that goes back.
        case ending(LedgerEvent.Waiter, Int?)
    }

    struct Work {
        var copy: Copy
        var mark: DeliveryMark
        /// Whether the broker has taken the job out of its queue, so that the ledger is only asked.
        var isQuestion = false
        var phase = Phase.asking
        /// Whether the delivery is this replica's, and whether it thinks so.
        var isLive = true
        var seemsLive = true
        var isMarked = false
    }

    struct Submission {
        enum Result { case pending, accepted, refused, silent }
        let job: Int
        let isMarked: Bool
        /// What the API did with it, whether or not anybody hears of it.
        var truth = Result.pending
    }

    struct Replica {
        let name: String
        var ledger: LedgerReplica
        var isAlive = true
        var frozenUntil = 0
        /// How wrong its clock is, in milliseconds.
        var skew = 0
        var link = 0
        /// Whether the broker has the connection of the ledger; the replica may think so for longer.
        var isConnected = false
        var thinksConnected = false
        /// What was asked of the broker, in order.
        var asks: [LedgerEffect] = []
        var outgoing: [(number: Int64?, body: [UInt8])] = []
        var confirms: [Int64] = []
        /// When the broker last had nothing of it to take.
        var caughtUpAt = 0
        var isReading = false
        var next = 0
        var isFlushDue = false
        var lastWaiter = 0
        /// Whether it takes jobs.
        var isConsuming = false
        var work: [Work] = []
    }

    var dice: SeededGenerator
    let mutation: Mutation?
    private let retries: Bool
    /// Whether jobs expire and are cancelled, too.
    ///
    /// Without, a seed means what it meant before there was that.
    let hasOrders: Bool
    private let start = ContinuousClock.now
    var now = 1_000_000
    /// The ledger's stream, whose first message has the offset `first`.
    var stream: [[UInt8]] = []
    var first = 0
    /// What a broker may still take from a connection that is gone.
    var late: [[UInt8]] = []
    var queue: [Copy] = []
    /// With orders, jobs come once a replica is ready: what is there before the ledger is in doubt, and has no free end.
    private var toCome: [Copy] = []
    /// Jobs that the broker has taken out of the queue.
    var undelivered: [Copy] = []
    /// Publications of which somebody was told that they ended and cost nothing, before any submission.
    private var endedFree: Set<Int> = []
    var replicas: [Replica] = []
    var submissions: [Submission] = []
    /// What the requester of each job was told: a submission, or nil for unknown or failed.
    private var told: [Int: [Int?]] = [:]
    /// Jobs whose outcome somebody may rightly not know.
    var hasCause: Set<Int> = []
    /// Whether the stream has lost anything.
    var hasLost = false
    private var isCalm = false
    let jobs: Int
    /// Jobs that were published twice: after a loss nobody may know the first.
    private var twins: Set<Int> = []
    var tally = Tally()

    init(seed: UInt64, hasOrders: Bool = false, mutation: Mutation? = nil) {
        dice = SeededGenerator(seed: seed)
        self.mutation = mutation
        self.hasOrders = hasOrders
        retries = Int.random(in: 0..<4, using: &dice) == 0
        jobs = Int.random(in: 1...3, using: &dice)
        for job in 0..<jobs {
            queue.append(Copy(job: job, publication: 2 * job))
            // The same id twice, taken by two replicas at once.
            if roll(3) {
                queue.append(Copy(job: job, publication: 2 * job + 1))
                twins.insert(job)
            }
        }
        if hasOrders { (toCome, queue) = (queue, []) }
        for _ in 0..<Int.random(in: 2...4, using: &dice) { startReplica() }
    }

    mutating func roll(_ sides: Int) -> Bool { Int.random(in: 0..<sides, using: &dice) == 0 }

    /// Runs to a calm end; throws a `Violation`.
    mutating func run() throws {
        for _ in 0..<Int.random(in: 40...240, using: &dice) {
            try step()
            if roll(18) { fault() }
        }
        try calmDown()
    }

    // MARK: - One step of anybody

    private mutating func step() throws {
        now += Int.random(in: 1...60, using: &dice)
        if !toCome.isEmpty, roll(8), replicas.contains(where: { $0.isAlive && $0.ledger.isReady }) {
            queue.append(toCome.removeFirst())
        }
        if !late.isEmpty, roll(12) { stream.append(late.removeFirst()) }
        let index = Int.random(in: replicas.indices, using: &dice)
        guard replicas[index].isAlive, replicas[index].frozenUntil <= now else { return }
        switch Int.random(in: 0..<12, using: &dice) {
        case 0: if undelivered.isEmpty || roll(2) { take(index) } else { takeUndelivered(index) }
        case 1: if replicas[index].isFlushDue { tell(index, .flush) }
        case 2: arrive(index)
        case 3, 4, 5: read(index)
        case 6: confirm(index)
        case 7, 8: serve(index)
        case 9, 10: tell(index, .tick(gate: nil, isBlocked: false))
        default: notice(index)
        }
        if hasOrders, isCalm || roll(100) { noticeDeliveries(index) }
        for index in replicas.indices where replicas[index].isAlive {
            if replicas[index].outgoing.isEmpty { replicas[index].caughtUpAt = now }
            // To the others a replica whose records do not arrive is gone.
            if now - replicas[index].caughtUpAt > Self.patience { noteCauses(index) }
        }
        if let place = replicas[index].work.indices.randomElement(using: &dice) { advance(index, place) }
        try check()
    }

    /// Hands an event to the shipped replica, and plays the shell with its effects.
    mutating func tell(_ index: Int, _ event: LedgerEvent) {
        if event == .flush { replicas[index].isFlushDue = false }
        let effects = replicas[index].ledger.handle(event, at: moment(index))
        for effect in effects { carryOut(effect, index) }
    }

    func moment(_ index: Int) -> LedgerMoment {
        LedgerMoment(
            monotonic: start + .milliseconds(now),
            wall: 1_700_000_000_000 + Int64(now + replicas[index].skew)
        )
    }

    private mutating func carryOut(_ effect: LedgerEffect, _ index: Int) {
        switch effect {
        case .inspectJobs, .greet, .look, .lookFirst, .consume, .fetch: replicas[index].asks.append(effect)
        case .publish(let number, let body):
            if replicas[index].isConnected { replicas[index].outgoing.append((number, body)) }
        case .flushSoon: replicas[index].isFlushDue = true
        case .answer(let waiter, let answer): resume(index, waiter, answer)
        case .leave: cut(index, isNoticed: true)
        case .turn, .tell, .read, .lagged, .remembers, .knowsFleet, .isOutdated, .awaitsOthers, .readStranger: break
        case .needsName: if mutation == nil { Issue.record("a replica takes its own message for another process's") }
        }
    }

    // MARK: - The pipeline

    private mutating func take(_ index: Int) {
        // Its consumer goes on while the ledger is away.
        guard replicas[index].ledger.isReady || replicas[index].isConsuming, replicas[index].work.count < 3,
            !queue.isEmpty
        else { return }
        replicas[index].isConsuming = true
        let copy = queue.removeFirst()
        // As the journal: copies of a job that this process is submitting wait.
        guard !replicas[index].work.contains(where: { $0.copy.job == copy.job }) else {
            queue.append(copy)
            return
        }
        // As `LedgerJournal.mark`.
        let (ledger, wasDelivered) = (replicas[index].ledger, copy.wasDelivered || copy.awaitsVerdict)
        var mark = DeliveryMark(
            isInDoubt: copy.isInDoubt || wasDelivered && ledger.doubtsDeliveries(at: moment(index)),
            losses: wasDelivered ? ledger.losses : nil,
            reads: ledger.reads
        )
        if ledger.watchesDeliveries(at: moment(index)) { tell(index, .delivered(wasBefore: wasDelivered)) }
        if mark.isInDoubt { hasCause.insert(copy.job) }
        if mutation == .ignoresDoubt { mark = DeliveryMark(isInDoubt: false) }
        replicas[index].work.append(Work(copy: copy, mark: mark))
    }

    /// As `SideIntake` and `UndeliveredJobs`.
    private mutating func takeUndelivered(_ index: Int) {
        guard replicas[index].ledger.isReady, replicas[index].work.count < 4, !undelivered.isEmpty else { return }
        let copy = undelivered.removeFirst()
        // As `LedgerJournal.doubt`.
        let ledger = replicas[index].ledger
        let isInDoubt = copy.isInDoubt || ledger.doubtsDeliveries(at: moment(index))
        if isInDoubt {
            tell(index, .delivered(wasBefore: true))
            hasCause.insert(copy.job)
        }
        let mark = DeliveryMark(isInDoubt: isInDoubt, losses: ledger.losses)
        replicas[index].work.append(Work(copy: copy, mark: mark, isQuestion: true))
    }

    static func id(_ job: Int) -> String { "job-\(job)" }

    private func request(_ copy: Copy, _ mark: DeliveryMark, isQuestion: Bool = false) -> JournalRequest {
        var request = JournalRequest(id: Self.id(copy.job), digest: BodyDigest([UInt8(copy.job)]))
        request.isQuestion = isQuestion
        request.takesVerdict = copy.wasDelivered || copy.awaitsVerdict || isQuestion
        request.retriesUnfinished = retries && !isQuestion
        request.mayBeSubmittedElsewhere = mark.isInDoubt
        request.lossesAtDelivery = mark.losses
        request.readsAtDelivery = mark.reads
        return request
    }

    private mutating func newWaiter(_ index: Int) -> LedgerEvent.Waiter {
        replicas[index].lastWaiter += 1
        return replicas[index].lastWaiter
    }

    private mutating func advance(_ index: Int, _ place: Int) {
        let work = replicas[index].work[place]
        switch work.phase {
        case .asking:
            // The gate may hold it.
            guard !hasOrders || work.isQuestion || roll(8) else { return }
            let waiter = newWaiter(index)
            replicas[index].work[place].phase = .waiting(waiter)
            if mutation == .submitsBeforeTheAnswer { replicas[index].work[place].phase = .begun }
            tell(index, .wants(request(work.copy, work.mark, isQuestion: work.isQuestion), waiter))
        case .waiting, .ending: break
        case .begun:
            let may = replicas[index].ledger.maySubmit(Self.id(work.copy.job), at: moment(index))
            guard work.seemsLive, may || mutation == .submitsBeforeTheAnswer || mutation == .submitsWhatIsCancelled
            else {
                return write(index, place, .released, -3)
            }
            submit(index, place)
        case .submitted(let submission, let until): answer(index, place, submission, until)
        }
        replicas[index].work.removeAll { $0.copy.job < 0 }
    }

    private mutating func resume(_ index: Int, _ waiter: LedgerEvent.Waiter, _ answer: LedgerEffect.Answer) {
        for place in replicas[index].work.indices {
            switch (replicas[index].work[place].phase, answer) {
            case (.waiting(waiter), .job(let answer)): follow(index, place, answer)
            // The gate closes, and the job goes back.
            case (.waiting(waiter), _): giveBack(index, place)
            case (.ending(waiter, let submission), _): end(index, place, submission)
            default: continue
            }
        }
        // While a job is at its turn it is taken out after that.
    }

    private mutating func follow(_ index: Int, _ place: Int, _ answer: PriorSubmission) {
        switch answer {
        case .withdrawn: giveBack(index, place)
        case .never where replicas[index].work[place].isQuestion:
            tally.expired += 1
            end(index, place, -4)
        case .possible where replicas[index].work[place].isQuestion: end(index, place, nil, isUnknown: true)
        case .never, .possible:
            replicas[index].work[place].phase = .begun
            replicas[index].work[place].isMarked = answer != .never
        case .ended(.accepted(let taskID, _), _, _): end(index, place, Int(taskID) ?? -1)
        case .running: giveBack(index, place)
        case .ended(.refused(.idConflict), _, _): end(index, place, -2)
        case .ended(.refused(let failure), _, _) where failure.code == .cancelled:
            guard mutation != .submitsWhatIsCancelled else {
                replicas[index].work[place].phase = .begun
                return
            }
            tally.cancelled += 1
            end(index, place, -4)
        case .ended(let verdict, _, _):
            end(index, place, nil, isUnknown: verdict.failure?.charged == .maybe)
        }
    }

    private mutating func submit(_ index: Int, _ place: Int) {
        tally.submissions += 1
        let work = replicas[index].work[place]
        if endedFree.contains(work.copy.publication) { told[work.copy.job, default: []].append(-7) }
        if !hasLost, isCancelled(work.copy.job, whenBegun: index) { told[work.copy.job, default: []].append(-6) }
        submissions.append(Submission(job: work.copy.job, isMarked: work.isMarked))
        replicas[index].work[place].phase = .submitted(submissions.count - 1, until: now + Self.apiTimeout)
    }

    private mutating func answer(_ index: Int, _ place: Int, _ submission: Int, _ until: Int) {
        if submissions[submission].truth == .pending, roll(3) || now > until { decide(submission) }
        switch submissions[submission].truth {
        case .pending: return
        case .accepted: write(index, place, .accepted(taskID: "\(submission)"), submission)
        case .refused:
            // As the pipeline: later failures do not undo what an earlier attempt may have cost.
            let charged: JobFailure.Charge = replicas[index].work[place].isMarked ? .maybe : .no
            if roll(2) { return write(index, place, .released, -3) }
            write(index, place, .failed(JobFailure(.apiRejected, "no", charged: charged)), nil)
        case .silent:
            guard now > until || isCalm else { return }
            hasCause.insert(submissions[submission].job)
            write(index, place, .failed(JobFailure(.outcomeUnknown, "?", charged: .maybe)), nil)
        }
    }

    /// What the API does with a submission.
    mutating func decide(_ submission: Int) {
        let truth: Submission.Result = roll(5) ? .refused : roll(8) ? .silent : .accepted
        submissions[submission].truth = truth
        if truth == .accepted { tally.accepted += 1 }
    }

    private mutating func write(_ index: Int, _ place: Int, _ end: JobEnd, _ submission: Int?) {
        let id = Self.id(replicas[index].work[place].copy.job)
        let waiter = newWaiter(index)
        if mutation == .settlesBeforeTheEnd, let submission, submission >= 0 {
            self.end(index, place, submission)
        } else {
            replicas[index].work[place].phase = .ending(waiter, submission)
        }
        tell(index, .writes(.end(id: id, end), waiter))
    }

    /// The requester is told, and the delivery acknowledged.
    private mutating func end(_ index: Int, _ place: Int, _ submission: Int?, isUnknown: Bool = false) {
        let work = replicas[index].work[place]
        if submission == -3 { return giveBack(index, place) }
        let mayTell = replicas[index].ledger.mayTellLate(Self.id(work.copy.job))
        if work.isLive || submission != nil && mayTell {
            told[work.copy.job, default: []].append(submission)
            if submission == -4 { endedFree.insert(work.copy.publication) }
            if isUnknown { tally.unknown += 1 }
            if isUnknown, !hasCause.contains(work.copy.job) { told[work.copy.job]?.append(-9) }
            if let submission, submission >= 0, !hasLost, !stands(submission) { told[work.copy.job]?.append(-8) }
        }
        replicas[index].work[place].copy = Copy(job: -1)
    }

    private mutating func giveBack(_ index: Int, _ place: Int) {
        let (copy, mark) = (replicas[index].work[place].copy, replicas[index].work[place].mark)
        if replicas[index].work[place].isLive {
            if replicas[index].work[place].isQuestion {
                undelivered.append(copy)
            } else {
                // A new publication, which says in its headers what it stands for.
                queue.append(
                    Copy(
                        job: copy.job,
                        publication: copy.publication,
                        isInDoubt: mark.isInDoubt,
                        awaitsVerdict: true
                    )
                )
            }
        }
        replicas[index].work[place].copy = Copy(job: -1)
    }

    // MARK: - What must be true

    /// All faults are mended; every job has to come to its end.
    private mutating func calmDown() throws {
        isCalm = true
        (queue, toCome) = (queue + toCome, [])
        for submission in submissions.indices where submissions[submission].truth == .pending { decide(submission) }
        for index in replicas.indices { replicas[index].frozenUntil = 0 }
        if !replicas.contains(where: \.isAlive) { startReplica() }
        for _ in 0..<12_000 {
            for index in replicas.indices where replicas[index].isAlive && !replicas[index].thinksConnected {
                notice(index)
            }
            try step()
            let isDone = queue.isEmpty && undelivered.isEmpty && replicas.allSatisfy { $0.work.isEmpty || !$0.isAlive }
            if isDone, replicas.allSatisfy({ !$0.isAlive || $0.isReading && $0.next == first + stream.count }) {
                return try checkAgreement()
            }
        }
        throw Violation(description: "a job has no end: \(queue.count) in the queue")
    }

    private func check() throws {
        for job in 0..<jobs {
            let paid = submissions.filter { $0.job == job && $0.truth != .refused && !$0.isMarked }
            // What no one can know: a second publication of what was lost with all who knew it.
            if paid.count > 1, !(hasLost && twins.contains(job)) {
                throw Violation(description: "job \(job) was submitted twice without a mark")
            }
            let ends = told[job] ?? []
            if ends.contains(-9) { throw Violation(description: "job \(job) is unknown without a cause") }
            if ends.contains(-7) { throw Violation(description: "job \(job) ended for free and was submitted then") }
            if ends.contains(-6) { throw Violation(description: "job \(job) began behind the order to cancel it") }
            if ends.contains(-8) { throw Violation(description: "job \(job) was told before its end was written") }
            if ends.contains(-2) { throw Violation(description: "job \(job) conflicts with itself") }
            if ends.contains(-1) { throw Violation(description: "job \(job) was accepted and its task id is lost") }
        }
    }

    /// All that have read as far say the same of every job, unless some know more than a stream that has lost it.
    private func checkAgreement() throws {
        for job in 0..<jobs {
            if told[job] == nil { throw Violation(description: "job \(job) was lost") }
            guard !hasLost else { continue }
            let request = request(Copy(job: job, wasDelivered: true), DeliveryMark(isInDoubt: false))
            let answers = replicas.filter(\.isAlive)
                .map { $0.ledger.state.answer(to: request, by: "x", at: 1_700_000_000_000) }
            if Set(answers).count > 1 { throw Violation(description: "the replicas disagree on job \(job)") }
        }
    }
}
