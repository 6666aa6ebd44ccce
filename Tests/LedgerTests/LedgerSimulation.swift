import EditJob
import Journal
import TestSupport

/// Replicas, a broker and an API in one thread, with a clock and a dice: crashes, delays, partitions and freezes at any
/// point, the same again for the same seed.
///
/// The rules are the real ones (`LedgerReplica`, `LedgerState`); what stands in `LedgerJournal` and in the pipeline around
/// them, and must not be forgotten there, is repeated here and can be broken by a `Mutation`.
struct LedgerSimulation {
    /// A rule that is broken, to see whether it is missed.
    enum Mutation: String, CaseIterable, Sendable {
        /// The request is sent as soon as the `begin` is published.
        case submitsBeforeReadBack
        /// No `begin` is written at all: what was read so far decides.
        case submitsOnWhatWasRead
        /// Own messages count when they are published, and not in the order of the stream.
        case appliesOwnMessagesOnArrival
        /// A job is taken from its replica without asking whether that lives.
        case abandonsWithoutAsking
        /// A job of a replica that is gone is submitted at once, without writing down that it was abandoned.
        case takesOverFromTheGone
        /// The record about the gone replica takes away whatever begin stands there by then.
        case abandonsWhateverStandsThere
        /// The delivery is acknowledged before its end is written.
        case settlesBeforeTheEnd
        /// A message that is published twice counts twice.
        case appliesDuplicates
        /// After a new connection the messages that were missed stay unread.
        case readsOnWithNewMessages
        /// A `begin` that waited too long is forgotten, and not withdrawn.
        case forgetsLateBegins
    }

    /// What a run has done, so that nobody takes an empty one for a proof.
    struct Tally {
        var submissions = 0
        var accepted = 0
        var unknown = 0
        var crashes = 0
        var abandoned = 0
    }

    struct Violation: Error, CustomStringConvertible {
        let description: String
    }

    private static let patience = 5_000
    private static let apiTimeout = 3_000
    private static let longestWait = 10_000

    struct Copy {
        let job: Int
        var wasDelivered = false
        var awaitsVerdict = false
    }

    enum Phase {
        case asking
        case waiting(LedgerReplica.Token, since: Int)
        case begun
        case submitted(Int, until: Int)
        case ending(LedgerReplica.Token, Int?)
        case abandoning(LedgerReplica.Token)
    }

    struct Work {
        var copy: Copy
        var phase = Phase.asking
        var isLive = true
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
        var ledger: LedgerReplica
        var isAlive = true
        var frozenUntil = 0
        /// Whether the broker has the connection of the ledger; the replica may think so for longer.
        var isConnected = false
        var hasPublisher = false
        var outgoing: [LedgerMessage] = []
        var confirms: [Int64] = []
        var next = 0
        var work: [Work] = []
        var goneSince: [String: Int] = [:]
        var dieSoon = false
    }

    private var dice: SeededGenerator
    private let mutation: Mutation?
    private let retries: Bool
    private var now = 1_000_000
    private var stream: [LedgerMessage] = []
    /// What a broker may still take from a connection that is gone.
    private var late: [LedgerMessage] = []
    private var queue: [Copy] = []
    private var replicas: [Replica] = []
    private var submissions: [Submission] = []
    /// What the requester of each job was told: a submission, or nil for unknown or failed.
    private var told: [Int: [Int?]] = [:]
    /// Jobs whose outcome somebody may rightly not know.
    private var hasCause: Set<Int> = []
    private var isCalm = false
    private let jobs: Int
    private(set) var tally = Tally()

    init(seed: UInt64, mutation: Mutation? = nil) {
        dice = SeededGenerator(seed: seed)
        self.mutation = mutation
        retries = Int.random(in: 0..<4, using: &dice) == 0
        jobs = Int.random(in: 1...3, using: &dice)
        for job in 0..<jobs {
            queue.append(Copy(job: job))
            // The same id twice, taken by two replicas at once.
            if roll(3) { queue.append(Copy(job: job)) }
        }
        for _ in 0..<Int.random(in: 2...4, using: &dice) { start() }
    }

    private mutating func roll(_ sides: Int) -> Bool { Int.random(in: 0..<sides, using: &dice) == 0 }

    /// Runs to a calm end; throws a `Violation`.
    mutating func run() throws {
        for _ in 0..<Int.random(in: 40...160, using: &dice) {
            try step()
            if roll(14) { fault() }
        }
        try calmDown()
    }

    // MARK: - The machine

    private mutating func start() {
        let name = "r\(replicas.count)"
        replicas.append(Replica(ledger: LedgerReplica(name: name, writer: name, retention: 1 << 40)))
        connect(replicas.count - 1)
    }

    /// As `LedgerJournal.attach`.
    private mutating func connect(_ index: Int) {
        guard replicas[index].isAlive, !replicas[index].isConnected else { return }
        replicas[index].isConnected = true
        // The confirms of the old connection are lost.
        replicas[index].confirms = []
        let last = replicas[index].ledger.lastRead
        if mutation == .readsOnWithNewMessages, last != nil {
            replicas[index].next = stream.count
            greet(index)
        } else {
            replicas[index].next = last.map { Int($0.offset) + 1 } ?? 0
            greet(index)
            if let last, !isContinued(after: last) {
                replicas[index].ledger.startOver()
                replicas[index].next = 0
                greet(index)
            }
        }
        replicas[index].hasPublisher = true
    }

    private mutating func greet(_ index: Int) {
        let hello = LedgerRecord.hello(LedgerGreeting(version: "1", settings: [:]))
        let greeting = replicas[index].ledger.greet([hello], at: Int64(now))
        append(greeting)
        replicas[index].ledger.confirmed(greeting.number)
    }

    /// As `LedgerJournal.isContinued`.
    private func isContinued(after last: (replica: String, number: Int64, offset: Int64)) -> Bool {
        guard stream.count - 1 > last.offset else { return false }
        let message = stream[Int(last.offset)]
        return message.replica == last.replica && message.number == last.number
    }

    /// The power of the broker's machine fails: all connections end, and the last records were not on the disk.
    ///
    /// Only ends, and of replicas that live: nobody else can write them again, and a begin that is lost with all connections
    /// may be another replica's next job. The guide says so.
    private mutating func losePower() {
        for index in replicas.indices { cut(index, isNoticed: true) }
        late = []
        // An end that is lost, and whose replica dies before it can write it again, leaves a doubt.
        defer {
            for index in replicas.indices {
                for job in 0..<jobs where hasBegun(job, index) { hasCause.insert(job) }
            }
        }
        let alive = Set(replicas.filter(\.isAlive).map(\.ledger.name))
        let most = Int.random(in: 0...6, using: &dice)
        for _ in 0..<most {
            guard let last = stream.last, alive.contains(last.replica),
                !last.records.contains(where: { $0.kind == "begin" || $0.kind == "abandon" })
            else { return }
            stream.removeLast()
        }
    }

    private mutating func append(_ message: LedgerMessage) {
        var message = message
        if mutation == .abandonsWhateverStandsThere {
            message.records = message.records.map { record in
                guard case .abandon(let id, _) = record, let latest = lastBegin(of: id) else { return record }
                return .abandon(id: id, offset: latest)
            }
        }
        stream.append(message)
    }

    private func lastBegin(of id: String) -> Int64? {
        stream.lastIndex { $0.records.contains { if case .begin(let begun) = $0 { begun.id == id } else { false } } }
            .map { Int64($0) }
    }

    /// The broker's side of the ledger's connection ends.
    private mutating func cut(_ index: Int, isNoticed: Bool) {
        guard replicas[index].isConnected else { return }
        replicas[index].isConnected = false
        // What was on its way may have reached the broker.
        while !replicas[index].outgoing.isEmpty, roll(2) { append(replicas[index].outgoing.removeFirst()) }
        late += replicas[index].outgoing
        replicas[index].outgoing = []
        if isNoticed { replicas[index].hasPublisher = false }
        // As the broker sees it; the consumer's connection is another.
        if roll(2) { takeBackDeliveries(of: index) }
        for job in 0..<jobs where hasBegun(job, index) { hasCause.insert(job) }
    }

    /// Whether the replica is at a job, or has said so and the others have not read yet that it is not.
    private func hasBegun(_ job: Int, _ index: Int) -> Bool {
        if replicas[index].work.contains(where: { $0.copy.job == job }) { return true }
        let own = stream.filter { $0.replica == replicas[index].ledger.name }.flatMap(\.records)
        let last = own.last { record in
            switch record {
            case .begin(let request): request.id == Self.id(job)
            case .end(let id, _): id == Self.id(job)
            default: false
            }
        }
        let coming = replicas[index].ledger.unreadRecords
        return (coming + [last].compactMap { $0 })
            .contains { if case .begin(let request) = $0 { request.id == Self.id(job) } else { false } }
    }

    private mutating func takeBackDeliveries(of index: Int) {
        for place in replicas[index].work.indices where replicas[index].work[place].isLive {
            replicas[index].work[place].isLive = false
            var copy = replicas[index].work[place].copy
            copy.wasDelivered = true
            queue.insert(copy, at: 0)
        }
    }

    private mutating func crash(_ index: Int) {
        guard replicas[index].isAlive else { return }
        tally.crashes += 1
        cut(index, isNoticed: true)
        takeBackDeliveries(of: index)
        for work in replicas[index].work { hasCause.insert(work.copy.job) }
        replicas[index].isAlive = false
        replicas[index].isConnected = false
        replicas[index].work = []
        // The API goes on with what it has.
        if !replicas.contains(where: \.isAlive) || roll(2) { start() }
    }

    private mutating func fault() {
        let index = Int.random(in: replicas.indices, using: &dice)
        switch Int.random(in: 0..<7, using: &dice) {
        case 0: crash(index)
        case 5: losePower()
        case 1: cut(index, isNoticed: true)
        // Silence: the broker has given the connection up, and the replica has not heard of it.
        case 2: cut(index, isNoticed: false)
        case 3:
            replicas[index].frozenUntil = now + Int.random(in: 1000...30_000, using: &dice)
            if roll(2) { cut(index, isNoticed: false) }
        case 4: if replicas.count(where: \.isAlive) < 5 { start() }
        default: now += Int.random(in: 1000...12_000, using: &dice)
        }
    }

    // MARK: - One step of anybody

    private mutating func step() throws {
        now += Int.random(in: 1...60, using: &dice)
        if !late.isEmpty, roll(12) { append(late.removeFirst()) }
        let index = Int.random(in: replicas.indices, using: &dice)
        guard replicas[index].isAlive, replicas[index].frozenUntil <= now else { return }
        switch Int.random(in: 0..<8, using: &dice) {
        case 0: take(index)
        case 1, 2: pump(index)
        case 3: arrive(index)
        case 4, 5: try read(index)
        case 6: confirm(index)
        default: notice(index)
        }
        if let place = replicas[index].work.indices.randomElement(using: &dice) { try advance(index, place) }
    }

    private mutating func notice(_ index: Int) {
        if !replicas[index].isConnected {
            replicas[index].hasPublisher = false
            if roll(3) { connect(index) }
        }
    }

    private mutating func take(_ index: Int) {
        guard replicas[index].hasPublisher, replicas[index].ledger.isUpToDate, replicas[index].work.count < 3,
            !queue.isEmpty
        else { return }
        let copy = queue.removeFirst()
        // As the desk: copies of a job that this process is submitting wait.
        guard !replicas[index].work.contains(where: { $0.copy.job == copy.job }) else {
            queue.append(copy)
            return
        }
        replicas[index].work.append(Work(copy: copy))
    }

    private mutating func pump(_ index: Int) {
        guard replicas[index].hasPublisher, let message = replicas[index].ledger.next(at: Int64(now)) else { return }
        if mutation == .appliesOwnMessagesOnArrival {
            resume(index, replicas[index].ledger.read(message, at: Int64(stream.count)))
        }
        if replicas[index].isConnected { replicas[index].outgoing.append(message) }
    }

    private mutating func arrive(_ index: Int) {
        guard replicas[index].isConnected, !replicas[index].outgoing.isEmpty else { return }
        let message = replicas[index].outgoing.removeFirst()
        append(message)
        replicas[index].confirms.append(message.number)
    }

    private mutating func confirm(_ index: Int) {
        guard replicas[index].isConnected, !replicas[index].confirms.isEmpty else { return }
        replicas[index].ledger.confirmed(replicas[index].confirms.removeFirst())
    }

    private mutating func read(_ index: Int) throws {
        guard replicas[index].isConnected, replicas[index].next < stream.count else { return }
        let offset = replicas[index].next
        replicas[index].next += 1
        var message = stream[offset]
        if mutation == .appliesDuplicates, replicas[index].ledger.state.hasApplied(message) {
            message.number = (replicas[index].ledger.state.lastNumber(of: message.replica) ?? 0) + 1000
        }
        resume(index, replicas[index].ledger.read(message, at: Int64(offset)))
    }

    private mutating func resume(_ index: Int, _ events: [LedgerReplica.Event]) {
        for event in events {
            for place in replicas[index].work.indices {
                switch (event, replicas[index].work[place].phase) {
                case (.answered(let token, let answer), .waiting(let own, _)) where token == own:
                    follow(index, place, answer)
                case (.written(let token), .ending(let own, let submission)) where token == own:
                    end(index, place, submission)
                case (.written(let token), .abandoning(let own)) where token == own:
                    replicas[index].work[place].phase = .asking
                default: continue
                }
                break
            }
        }
        replicas[index].work.removeAll { $0.copy.job < 0 }
    }

    // MARK: - A job's way, as `LedgerJournal.begin` and the pipeline go it

    private static func id(_ job: Int) -> String { "job-\(job)" }

    private func request(_ copy: Copy) -> JournalRequest {
        var request = JournalRequest(id: Self.id(copy.job), digest: BodyDigest([UInt8(copy.job)]))
        request.takesVerdict = copy.wasDelivered || copy.awaitsVerdict
        request.retriesUnfinished = retries
        return request
    }

    private mutating func advance(_ index: Int, _ place: Int) throws {
        let work = replicas[index].work[place]
        let id = Self.id(work.copy.job)
        switch work.phase {
        case .asking: ask(index, place)
        case .waiting(let token, let since):
            if mutation == .submitsBeforeReadBack { return submit(index, place, isMarked: false) }
            guard now - since > Self.longestWait else { return }
            if mutation != .forgetsLateBegins { replicas[index].ledger.withdraw(token, of: id) }
            giveBack(index, place)
        case .begun:
            let maySubmit = replicas[index].hasPublisher && replicas[index].ledger.isSubmitting(id)
            guard work.isLive, maySubmit || mutation == .appliesOwnMessagesOnArrival else {
                return write(index, place, .released, nil)
            }
            submit(index, place, isMarked: work.isMarked)
        case .submitted(let submission, let until): answer(index, place, submission, until)
        case .ending, .abandoning: break
        }
        replicas[index].work.removeAll { $0.copy.job < 0 }
    }

    private mutating func ask(_ index: Int, _ place: Int) {
        guard replicas[index].hasPublisher else { return }
        let copy = replicas[index].work[place].copy
        let request = request(copy)
        let known = replicas[index].ledger.answer(to: request, at: Int64(now))
        if mutation == .submitsOnWhatWasRead, case .begun(let isMarked, _) = known.answer {
            replicas[index].ledger.write(.begin(request))
            return submit(index, place, isMarked: isMarked)
        }
        guard known.mustBeWritten else { return follow(index, place, known) }
        replicas[index].work[place].phase = .waiting(replicas[index].ledger.write(.begin(request)), since: now)
    }

    private mutating func follow(_ index: Int, _ place: Int, _ answer: LedgerState.Answer) {
        let job = replicas[index].work[place].copy.job
        switch answer.answer {
        case .begun(let isMarked, _):
            replicas[index].work[place].phase = .begun
            replicas[index].work[place].isMarked = isMarked
        case .accepted(let taskID, _, _, _):
            let offset = answer.acceptedAt
            end(index, place, offset.flatMap { taskOf(job, at: $0) } ?? Int(taskID) ?? -1)
        case .inFlight:
            guard let holder = answer.holder, isGone(holder, for: index) else { return giveBack(index, place) }
            if mutation == .takesOverFromTheGone { return submit(index, place, isMarked: false) }
            tally.abandoned += 1
            let token = replicas[index].ledger.write(.abandon(id: Self.id(job), offset: holder.offset))
            replicas[index].work[place].phase = .abandoning(token)
        case .failed(let failure, _, _): end(index, place, nil, isUnknown: failure.charged == .maybe)
        case .doubtful: end(index, place, nil, isUnknown: true)
        case .conflict, .overBudget: end(index, place, -2)
        }
    }

    private func taskOf(_ job: Int, at offset: Int64) -> Int? {
        guard stream.indices.contains(Int(offset)) else { return nil }
        for record in stream[Int(offset)].records {
            if case .end(Self.id(job), .accepted(let taskID, _)) = record { return Int(taskID) }
        }
        return nil
    }

    /// As `LedgerJournal.isGone`.
    private mutating func isGone(_ holder: LedgerState.Holder, for index: Int) -> Bool {
        if mutation == .abandonsWithoutAsking { return holder.replica != replicas[index].ledger.name }
        guard holder.replica != replicas[index].ledger.name else { return false }
        let isThere = replicas.contains { $0.ledger.name == holder.replica && $0.isConnected }
        let since = replicas[index].goneSince[holder.replica] ?? now
        replicas[index].goneSince[holder.replica] = isThere ? nil : since
        return !isThere && now - since >= Self.patience
    }

    private mutating func submit(_ index: Int, _ place: Int, isMarked: Bool) {
        tally.submissions += 1
        submissions.append(Submission(job: replicas[index].work[place].copy.job, isMarked: isMarked))
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
            write(index, place, roll(2) ? .released : .failed(JobFailure(.apiRejected, "no", charged: charged)), nil)
        case .silent:
            guard now > until || isCalm else { return }
            hasCause.insert(submissions[submission].job)
            write(index, place, .failed(JobFailure(.outcomeUnknown, "?", charged: .maybe)), nil)
        }
    }

    /// What the API does with a submission.
    private mutating func decide(_ submission: Int) {
        let truth: Submission.Result = roll(5) ? .refused : roll(8) ? .silent : .accepted
        submissions[submission].truth = truth
        if truth == .accepted { tally.accepted += 1 }
    }

    private mutating func write(_ index: Int, _ place: Int, _ verdict: JournalVerdict, _ submission: Int?) {
        let id = Self.id(replicas[index].work[place].copy.job)
        if mutation == .settlesBeforeTheEnd, submission != nil {
            end(index, place, submission)
            replicas[index].ledger.write(.end(id: id, verdict))
            return
        }
        let token = replicas[index].ledger.write(.end(id: id, verdict))
        replicas[index].work[place].phase = .ending(token, submission ?? (verdict == .released ? -3 : nil))
        if case .failed(let failure) = verdict, failure.charged == .maybe {
            replicas[index].work[place].isMarked = true
        }
    }

    /// The requester is told, and the delivery acknowledged; -3 is a job that goes back.
    private mutating func end(_ index: Int, _ place: Int, _ submission: Int?, isUnknown: Bool = false) {
        let work = replicas[index].work[place]
        if submission == -3 { return giveBack(index, place) }
        if work.isLive || submission != nil {
            told[work.copy.job, default: []].append(submission)
            if isUnknown { tally.unknown += 1 }
            if isUnknown, !hasCause.contains(work.copy.job) { told[work.copy.job]?.append(-9) }
            if let submission, submission >= 0, !stands(submission) { told[work.copy.job]?.append(-8) }
        }
        replicas[index].work[place].copy = Copy(job: -1)
    }

    /// Whether the ledger says that a submission was accepted.
    private func stands(_ submission: Int) -> Bool {
        stream.contains { message in
            message.records.contains { if case .end(_, .accepted("\(submission)", _)) = $0 { true } else { false } }
        }
    }

    private mutating func giveBack(_ index: Int, _ place: Int) {
        let work = replicas[index].work[place]
        if work.isLive { queue.append(Copy(job: work.copy.job, awaitsVerdict: true)) }
        replicas[index].work[place].copy = Copy(job: -1)
    }

    // MARK: - What must be true

    /// All faults are mended; every job has to come to its end.
    private mutating func calmDown() throws {
        isCalm = true
        for submission in submissions.indices where submissions[submission].truth == .pending { decide(submission) }
        for index in replicas.indices { replicas[index].frozenUntil = 0 }
        if !replicas.contains(where: \.isAlive) { start() }
        for _ in 0..<6000 {
            for index in replicas.indices where replicas[index].isAlive { connect(index) }
            try step()
            try check()
            let isDone = queue.isEmpty && replicas.allSatisfy { $0.work.isEmpty || !$0.isAlive }
            if isDone, replicas.allSatisfy({ !$0.isAlive || $0.next == stream.count }) { return try checkAgreement() }
        }
        throw Violation(description: "a job has no end: \(queue.count) in the queue")
    }

    private func check() throws {
        for job in 0..<jobs {
            let paid = submissions.filter { $0.job == job && $0.truth != .refused && !$0.isMarked }
            if paid.count > 1 { throw Violation(description: "job \(job) was submitted twice without a mark") }
            let ends = told[job] ?? []
            if ends.contains(-9) { throw Violation(description: "job \(job) is unknown without a cause") }
            if ends.contains(-8) { throw Violation(description: "job \(job) was told before its end was written") }
            if ends.contains(-2) { throw Violation(description: "job \(job) conflicts with itself") }
            if ends.contains(-1) { throw Violation(description: "job \(job) was accepted and its task id is lost") }
        }
    }

    /// All that have read as far say the same of every job.
    private func checkAgreement() throws {
        try check()
        for job in 0..<jobs {
            if told[job] == nil { throw Violation(description: "job \(job) was lost") }
            let request = request(Copy(job: job, wasDelivered: true))
            let answers = replicas.filter(\.isAlive)
                .map { $0.ledger.state.answer(to: request, by: "x", at: Int64(now)) }
            if Set(answers).count > 1 { throw Violation(description: "the replicas disagree on job \(job)") }
        }
    }
}
