import EditJob
import Journal
import Ledger
import TestSupport
import Testing

/// A small world that is explored exhaustively: whatever order its moves come in, no job is paid for twice unseen.
///
/// The replicas are the ones that ship. Time stands still, so that nobody is given up; what is local to a replica (a question
/// to the broker but the greeting, a flush, a confirm) happens at once. Everything else is a move: what arrives at the stream, what is
/// read, who takes a job, and at any point one of the faults that the bounds allow.
struct LedgerExploration: Hashable {
    /// How much may go wrong.
    struct Bounds: Hashable {
        var crashes = 0
        var cuts = 0
        var lostTails = 0
        var deletions = 0
        var policyCuts = 0
        /// Jobs that the broker takes out of the queue, and orders to cancel one.
        var expiries = 0
        var cancellations = 0
        /// Consumers' connections that end before their replica hears of it.
        var unnoticedCuts = 0
    }

    enum Move: Hashable {
        case greet(Int)
        case arrive(Int)
        case read(Int)
        case report(Int)
        case take(Int)
        case submit(Int, place: Int)
        case accept(Int, place: Int)
        case crash(Int)
        case cut(Int)
        case loseTail(Int)
        case deleteStream
        case cutFront(Int)
        case expire
        case takeUndelivered(Int)
        case cancel
        case takeBack(Int)

        fileprivate var isOfMeeting: Bool {
            switch self {
            case .greet, .arrive, .read, .report: true
            case .take, .submit, .accept, .crash, .cut, .loseTail, .deleteStream, .cutFront, .expire, .takeUndelivered,
                .cancel, .takeBack:
                false
            }
        }
    }

    private struct Work: Hashable {
        enum Phase: Hashable {
            case waiting(Int)
            case begun, submitted
            case ending(Int)
        }
        let job: Int
        var phase: Phase
        var isMarked = false
        var isQuestion = false
        /// Whether the delivery is the replica's, and whether it thinks so.
        var isLive = true
        var seemsLive = true
    }

    private struct Outgoing: Hashable {
        let number: Int64?
        let body: [UInt8]
    }

    private struct Replica: Hashable {
        var ledger: LedgerReplica
        var isAlive = true
        var link = 0
        var greeting: Outgoing?
        var outgoing: [Outgoing] = []
        var isReading = false
        var next = 0
        var hasTaken = false
        var work: [Work] = []
    }

    private struct Copy: Hashable {
        let job: Int
        var wasDelivered = false
    }

    private static let start = ContinuousClock.now
    private static let moment = LedgerMoment(monotonic: start, wall: 1_700_000_000_000)

    private var bounds: Bounds
    private var replicas: [Replica] = []
    private var stream: [[UInt8]] = []
    private var first = 0
    private var queue: [Copy]
    private var undelivered: [Copy] = []
    /// Submissions without a mark, by job.
    private(set) var unmarked: [Int]
    /// Jobs of which was told that they ended and cost nothing.
    private var endedFree: Set<Int> = []
    /// Whether a job was submitted after that.
    private(set) var isBroken = false

    init(replicas: Int, jobs: Int, bounds: Bounds) {
        self.bounds = bounds
        queue = (0..<jobs).map { Copy(job: $0) }
        unmarked = Array(repeating: 0, count: jobs)
        for index in 0..<replicas {
            let options = LedgerReplica.Options(
                name: "r\(index)",
                writer: "",
                greeting: LedgerGreeting(version: "1", settings: [:]),
                startedAt: 0,
                retention: .seconds(1 << 30),
                patience: .seconds(40)
            )
            self.replicas.append(Replica(ledger: LedgerReplica(options)))
            connect(index)
        }
        // They have met before anything else happens.
        while let move = moves.first(where: \.isOfMeeting) { make(move) }
    }

    // MARK: - Moves

    var moves: [Move] {
        var moves: [Move] = []
        for (index, replica) in replicas.enumerated() where replica.isAlive {
            if replica.greeting != nil { moves.append(.greet(index)) }
            if !replica.outgoing.isEmpty { moves.append(.arrive(index)) }
            if replica.isReading, max(replica.next, first) < first + stream.count { moves.append(.read(index)) }
            if reports(index) { moves.append(.report(index)) }
            if replica.ledger.isReady, !queue.isEmpty, replica.work.count < 2 { moves.append(.take(index)) }
            for (place, work) in replica.work.enumerated() {
                switch work.phase {
                case .begun: moves.append(.submit(index, place: place))
                case .submitted: moves.append(.accept(index, place: place))
                case .waiting, .ending: break
                }
            }
            if replica.ledger.isReady, !undelivered.isEmpty, replica.work.count < 2 {
                moves.append(.takeUndelivered(index))
            }
            if bounds.unnoticedCuts > 0, !replica.work.isEmpty { moves.append(.takeBack(index)) }
            if bounds.crashes > 0 { moves.append(.crash(index)) }
            if bounds.cuts > 0, replica.greeting == nil { moves.append(.cut(index)) }
        }
        if bounds.expiries > 0, !queue.isEmpty { moves.append(.expire) }
        if bounds.cancellations > 0 { moves.append(.cancel) }
        guard !stream.isEmpty else { return moves }
        if bounds.lostTails > 0 { moves += (1...min(3, stream.count)).map { .loseTail($0) } }
        if bounds.deletions > 0 { moves.append(.deleteStream) }
        if bounds.policyCuts > 0 { moves += [1, stream.count].map { .cutFront($0) } }
        return moves
    }

    /// Whether the replica would say something of itself.
    private func reports(_ index: Int) -> Bool {
        var replica = replicas[index].ledger
        return !replica.handle(.tick(gate: nil, isBlocked: false), at: Self.moment)
            .allSatisfy { if case .flushSoon = $0 { false } else { true } }
    }

    mutating func make(_ move: Move) {
        switch move {
        case .greet(let index):
            guard let greeting = replicas[index].greeting else { return }
            replicas[index].greeting = nil
            stream.append(greeting.body)
            tell(index, .confirmed(greeting.number ?? -1, link: replicas[index].link))
        case .arrive(let index):
            let outgoing = replicas[index].outgoing.removeFirst()
            stream.append(outgoing.body)
            if let number = outgoing.number { tell(index, .confirmed(number, link: replicas[index].link)) }
        case .read(let index):
            let offset = max(replicas[index].next, first)
            replicas[index].next = offset + 1
            tell(index, .read(stream[offset - first], user: "u", at: Int64(offset), link: replicas[index].link))
        case .report(let index): tell(index, .tick(gate: nil, isBlocked: false))
        case .take(let index): take(index)
        case .submit(let index, let place): submit(index, place)
        case .accept(let index, let place):
            let job = replicas[index].work[place].job
            write(index, place, .accepted(taskID: "t\(job)"))
        case .crash(let index):
            bounds.crashes -= 1
            giveBackAll(index)
            replicas[index].isAlive = false
        case .cut(let index):
            bounds.cuts -= 1
            cut(index)
        case .loseTail(let count):
            bounds.lostTails -= 1
            stream.removeLast(count)
            for index in replicas.indices where replicas[index].isAlive { cut(index) }
        case .deleteStream:
            bounds.deletions -= 1
            (stream, first) = ([], 0)
            for index in replicas.indices where replicas[index].isAlive { cut(index) }
        case .expire:
            bounds.expiries -= 1
            undelivered.append(queue.removeFirst())
        case .takeUndelivered(let index): takeUndelivered(index)
        case .cancel:
            bounds.cancellations -= 1
            let records = [LedgerRecord.cancel([CancelledJob(id: "j0")], reason: "")]
            stream.append(LedgerMessage(replica: "o", writer: "o", number: 0, at: 0, records: records).encoded)
        case .takeBack(let index):
            bounds.unnoticedCuts -= 1
            giveBackAll(index, isNoticed: false)
        case .cutFront(let count):
            bounds.policyCuts -= 1
            stream.removeFirst(count)
            first += count
        }
        for index in replicas.indices { replicas[index].work.removeAll { $0.phase == .ending(-1) } }
    }

    private mutating func connect(_ index: Int) {
        replicas[index].link += 1
        (replicas[index].greeting, replicas[index].outgoing) = (nil, [])
        replicas[index].isReading = false
        tell(index, .connected(link: replicas[index].link, user: "u"))
    }

    /// Both connections of the replica: its jobs go back, too.
    private mutating func cut(_ index: Int) {
        giveBackAll(index)
        tell(index, .disconnected(link: replicas[index].link, isSilent: false))
        connect(index)
    }

    private mutating func giveBackAll(_ index: Int, isNoticed: Bool = true) {
        for place in replicas[index].work.indices {
            if isNoticed { replicas[index].work[place].seemsLive = false }
            guard replicas[index].work[place].isLive else { continue }
            replicas[index].work[place].isLive = false
            let copy = Copy(job: replicas[index].work[place].job, wasDelivered: true)
            if replicas[index].work[place].isQuestion {
                undelivered.insert(copy, at: 0)
            } else {
                queue.insert(copy, at: 0)
            }
        }
    }

    private mutating func tell(_ index: Int, _ event: LedgerEvent) {
        for effect in replicas[index].ledger.handle(event, at: Self.moment) {
            let link = replicas[index].link
            switch effect {
            case .inspectJobs:
                let others = replicas.indices.count { $0 != index && replicas[$0].hasTaken && replicas[$0].isAlive }
                tell(index, .sawJobs(.seen(ready: queue.count, consumers: others), link: link))
            case .greet(let number, let body): replicas[index].greeting = Outgoing(number: number, body: body)
            case .look(let offset):
                let place = max(Int(offset), first)
                let body = stream.indices.contains(place - first) ? stream[place - first] : nil
                let message = body.flatMap { try? LedgerMessage(parsing: $0) }
                tell(index, .saw(message?.id, at: message == nil ? nil : Int64(place), link: link))
            case .lookFirst: tell(index, .sawFirst(Int64(first), link: link))
            case .consume(let offset):
                replicas[index].next = offset.map { Int($0) } ?? first
                replicas[index].isReading = true
                tell(index, .reads(link: link))
            case .publish(let number, let body):
                replicas[index].outgoing.append(Outgoing(number: number, body: body))
            case .flushSoon: tell(index, .flush)
            case .fetch(let id, let offset, let waiter):
                let body = stream.indices.contains(Int(offset) - first) ? stream[Int(offset) - first] : nil
                let message = body.flatMap { try? LedgerMessage(parsing: $0) }
                tell(index, .fetched(message.flatMap { Acceptance(of: id, in: $0) }, isAnswer: true, waiter))
            case .answer(let waiter, let answer): resume(index, waiter, answer)
            case .leave:
                replicas[index].isReading = false
                connect(index)
            case .turn, .tell, .read, .lagged, .remembers, .knowsFleet, .isOutdated, .awaitsOthers, .readStranger: break
            case .needsName: Issue.record("a replica takes its own message for another process's")
            }
        }
    }

    // MARK: - The pipeline

    private mutating func take(_ index: Int) {
        replicas[index].hasTaken = true
        let copy = queue.removeFirst()
        guard !replicas[index].work.contains(where: { $0.job == copy.job }) else { return queue.append(copy) }
        // As `LedgerJournal.mark`.
        let ledger = replicas[index].ledger
        let isInDoubt = copy.wasDelivered && ledger.doubtsDeliveries(at: Self.moment)
        if ledger.watchesDeliveries(at: Self.moment) { tell(index, .delivered(wasBefore: copy.wasDelivered)) }
        var request = JournalRequest(id: "j\(copy.job)", digest: BodyDigest([UInt8(copy.job)]))
        request.takesVerdict = copy.wasDelivered
        request.mayBeSubmittedElsewhere = isInDoubt
        request.lossesAtDelivery = copy.wasDelivered ? ledger.losses : nil
        request.readsAtDelivery = ledger.reads
        let waiter = freeWaiter(index)
        replicas[index].work.append(Work(job: copy.job, phase: .waiting(waiter)))
        tell(index, .wants(request, waiter))
    }

    private mutating func takeUndelivered(_ index: Int) {
        let copy = undelivered.removeFirst()
        let ledger = replicas[index].ledger
        var request = JournalRequest(id: "j\(copy.job)", digest: BodyDigest([UInt8(copy.job)]))
        (request.isQuestion, request.takesVerdict) = (true, true)
        request.mayBeSubmittedElsewhere = ledger.doubtsDeliveries(at: Self.moment)
        request.lossesAtDelivery = ledger.losses
        let waiter = freeWaiter(index)
        replicas[index].work.append(Work(job: copy.job, phase: .waiting(waiter), isQuestion: true))
        tell(index, .wants(request, waiter))
    }

    /// Used again once it is free, so that a job which comes and goes leads back to where it was.
    private func freeWaiter(_ index: Int) -> Int {
        let used = replicas[index].work
            .map { work -> Int in
                switch work.phase {
                case .waiting(let waiter), .ending(let waiter): waiter
                case .begun, .submitted: -1
                }
            }
        return (1...used.count + 1).first { !used.contains($0) } ?? 0
    }

    private mutating func submit(_ index: Int, _ place: Int) {
        let work = replicas[index].work[place]
        guard work.seemsLive, replicas[index].ledger.maySubmit("j\(work.job)", at: Self.moment) else {
            return write(index, place, .released)
        }
        if !work.isMarked { unmarked[work.job] += 1 }
        if endedFree.contains(work.job) { isBroken = true }
        replicas[index].work[place].phase = .submitted
    }

    private mutating func write(_ index: Int, _ place: Int, _ end: JobEnd) {
        let waiter = freeWaiter(index)
        replicas[index].work[place].phase = .ending(waiter)
        tell(index, .writes(.end(id: "j\(replicas[index].work[place].job)", end), waiter))
    }

    private mutating func resume(_ index: Int, _ waiter: Int, _ answer: LedgerEffect.Answer) {
        for place in replicas[index].work.indices {
            let isQuestion = replicas[index].work[place].isQuestion
            switch (replicas[index].work[place].phase, answer) {
            case (.waiting(waiter), .job(.ended(.refused, _, _))),
                (.waiting(waiter), .job(.never)) where isQuestion:
                if replicas[index].work[place].isLive { endedFree.insert(replicas[index].work[place].job) }
                replicas[index].work[place].phase = .ending(-1)
            case (.waiting(waiter), .job(.possible)) where isQuestion: replicas[index].work[place].phase = .ending(-1)
            case (.waiting(waiter), .job(.never)), (.waiting(waiter), .job(.possible)):
                replicas[index].work[place].phase = .begun
                replicas[index].work[place].isMarked = answer != .job(.never)
            case (.waiting(waiter), .job(.running)), (.waiting(waiter), .job(.withdrawn)), (.waiting(waiter), .fault):
                // Back to the queue, behind the others.
                if replicas[index].work[place].isLive {
                    let copy = Copy(job: replicas[index].work[place].job, wasDelivered: true)
                    if isQuestion { undelivered.append(copy) } else { queue.append(copy) }
                }
                replicas[index].work[place].phase = .ending(-1)
            // It has an end, which is told: that is all for this delivery.
            case (.waiting(waiter), _), (.ending(waiter), _): replicas[index].work[place].phase = .ending(-1)
            default: continue
            }
        }
    }
}
