import EditJob
import Journal

@testable import Ledger

// The broker's part of the simulation: connections, the stream, and what goes wrong with them.

extension LedgerSimulation {
    private static let user = "worker"

    mutating func startReplica() {
        let name = "r\(replicas.count)"
        var options = LedgerReplica.Options(
            name: name,
            writer: name,
            greeting: LedgerGreeting(version: "1", settings: [:]),
            startedAt: 0,
            retention: .seconds(1 << 30),
            patience: .milliseconds(Self.patience)
        )
        options.heartbeat = .seconds(1)
        options.consumerTimeout = .seconds(30)
        var replica = Replica(name: name, ledger: LedgerReplica(options))
        // A clock that somebody has set wrong.
        if roll(4) { replica.skew = Int.random(in: -400_000_000...400_000_000, using: &dice) }
        replicas.append(replica)
        notice(replicas.count - 1)
    }

    /// The shell hears that its connection has ended, or makes another one.
    mutating func notice(_ index: Int) {
        guard !replicas[index].isConnected else { return }
        if replicas[index].thinksConnected {
            replicas[index].thinksConnected = false
            let waiting = replicas[index].asks
            replicas[index].asks = []
            tell(index, .disconnected(link: replicas[index].link, isSilent: false))
            for case .fetch(_, _, let waiter) in waiting {
                tell(index, .fetched(nil, isAnswer: false, waiter))
            }
        } else {
            replicas[index].link += 1
            replicas[index].asks = []
            replicas[index].outgoing = []
            // The confirms of the old connection are lost.
            replicas[index].confirms = []
            replicas[index].isReading = false
            replicas[index].isConnected = true
            replicas[index].thinksConnected = true
            tell(index, .connected(link: replicas[index].link, user: Self.user))
        }
    }

    /// The replica hears that its consumer's connection has ended.
    mutating func noticeDeliveries(_ index: Int) {
        for place in replicas[index].work.indices {
            replicas[index].work[place].seemsLive = replicas[index].work[place].isLive
        }
    }

    /// The broker answers what it was asked.
    mutating func serve(_ index: Int) {
        guard replicas[index].isConnected, !replicas[index].asks.isEmpty else { return }
        let link = replicas[index].link
        switch replicas[index].asks.removeFirst() {
        case .inspectJobs:
            let others = replicas.indices.count { $0 != index && replicas[$0].isConsuming }
            let own = replicas[index].isConsuming ? 1 : 0
            tell(index, .sawJobs(.seen(ready: queue.count, consumers: others + own), link: link))
        case .greet(let number, let body):
            stream.append(body)
            tell(index, .confirmed(number, link: link))
        case .look(let offset):
            let place = max(Int(offset), first)
            let message = place < first + stream.count ? message(at: place) : nil
            guard mutation != .neverSeesAnotherStream else {
                return tell(index, .saw(replicas[index].ledger.place?.message, at: offset, link: link))
            }
            tell(index, .saw(message?.id, at: message == nil ? nil : Int64(place), link: link))
        case .lookFirst: tell(index, .sawFirst(Int64(first), link: link))
        case .consume(let offset):
            replicas[index].next = offset.map { Int($0) } ?? first
            if mutation == .readsOnWithNewMessages, offset != nil {
                // All but the greeting, without which the replica would wait for ever.
                replicas[index].next = first + stream.count - 1
            }
            replicas[index].isReading = true
            tell(index, .reads(link: link))
        case .fetch(let id, let offset, let waiter):
            let message = Int(offset) < first ? nil : message(at: Int(offset))
            let acceptance = message.flatMap { Acceptance(of: id, in: $0) }
            tell(index, .fetched(acceptance, isAnswer: true, waiter))
        default: break
        }
    }

    private func message(at offset: Int) -> LedgerMessage? {
        stream.indices.contains(offset - first) ? try? LedgerMessage(parsing: stream[offset - first]) : nil
    }

    mutating func arrive(_ index: Int) {
        guard replicas[index].isConnected, !replicas[index].outgoing.isEmpty else { return }
        let (number, body) = replicas[index].outgoing.removeFirst()
        stream.append(body)
        // A confirm that is lost lets it be published once more.
        if roll(30) { late.append(body) }
        if let number { replicas[index].confirms.append(number) }
    }

    mutating func confirm(_ index: Int) {
        guard replicas[index].isConnected, !replicas[index].confirms.isEmpty else { return }
        tell(index, .confirmed(replicas[index].confirms.removeFirst(), link: replicas[index].link))
    }

    mutating func read(_ index: Int) {
        guard replicas[index].isConnected, replicas[index].isReading else { return }
        // A policy has cut off what was to be read: the broker goes on where the stream begins.
        replicas[index].next = max(replicas[index].next, first)
        let offset = replicas[index].next
        if mutation == .neverSeesAnotherStream, let expected = replicas[index].ledger.expected.first {
            let (id, place) = (expected.message, expected.offset)
            replicas[index].next = Int(place) + 1
            let body = LedgerMessage(replica: id.replica, writer: "", number: id.number, at: 0, records: []).encoded
            return tell(index, .read(body, user: Self.user, at: place, link: replicas[index].link))
        }
        guard offset < first + stream.count else { return }
        replicas[index].next += 1
        var body = stream[offset - first]
        if mutation == .appliesDuplicates, let message = message(at: offset),
            replicas[index].ledger.state.hasApplied(message)
        {
            var again = message
            again.number += 1_000_000 + Int64(offset)
            body = again.encoded
        }
        tell(index, .read(body, user: Self.user, at: Int64(offset), link: replicas[index].link))
    }

    // MARK: - Faults

    mutating func fault() {
        let index = Int.random(in: replicas.indices, using: &dice)
        switch Int.random(in: 0..<(hasOrders ? 14 : 10), using: &dice) {
        case 10: expire()
        case 11, 13: expireUnnoticed(index)
        case 12: if roll(2) { cancel() }
        case 0: crash(index)
        case 1: cut(index, isNoticed: true)
        // Silence: the broker has given the connection up, and the replica has not heard of it.
        case 2: cut(index, isNoticed: false)
        case 3:
            replicas[index].frozenUntil = now + Int.random(in: 1000...30_000, using: &dice)
            noteCauses(index)
            if roll(2) { cut(index, isNoticed: false) }
        case 4: if replicas.count(where: \.isAlive) < 5 { startReplica() }
        case 5: if roll(2) { loseTail() }
        case 6: if roll(2) { cutFront() }
        case 7: if roll(3) { deleteStream() }
        // The consumer's connection is another one.
        case 8: takeBackDeliveries(of: index)
        default: now += Int.random(in: 1000...12_000, using: &dice)
        }
    }

    /// The broker takes a job out of its queue.
    private mutating func expire() {
        guard let place = queue.indices.randomElement(using: &dice) else { return }
        undelivered.append(queue.remove(at: place))
    }

    /// The consumer's connection is lost, which the replica does not notice for a while, and its jobs expire at once.
    private mutating func expireUnnoticed(_ index: Int) {
        noteCauses(index)
        replicas[index].frozenUntil = max(replicas[index].frozenUntil, now + Int.random(in: 0...4000, using: &dice))
        for place in replicas[index].work.indices where replicas[index].work[place].isLive {
            guard replicas[index].work[place].copy.job >= 0 else { continue }
            replicas[index].work[place].isLive = false
            undelivered.append(replicas[index].work[place].copy)
        }
    }

    /// An operator cancels a job.
    private mutating func cancel() {
        let order = LedgerMessage(
            replica: "operator-\(now)",
            writer: "someone",
            number: 0,
            at: 1_700_000_000_000 + Int64(now),
            records: [.cancel([CancelledJob(id: Self.id(Int.random(in: 0..<jobs, using: &dice)))], reason: "")]
        )
        stream.append(order.encoded)
    }

    /// The broker's side of the ledger's connection ends.
    mutating func cut(_ index: Int, isNoticed: Bool) {
        guard replicas[index].isConnected else { return }
        replicas[index].isConnected = false
        replicas[index].isReading = false
        // What was on its way may have reached the broker.
        while !replicas[index].outgoing.isEmpty, roll(2) { stream.append(replicas[index].outgoing.removeFirst().body) }
        late += replicas[index].outgoing.map(\.body)
        replicas[index].outgoing = []
        if roll(2) { takeBackDeliveries(of: index) }
        noteCauses(index)
        if isNoticed, replicas[index].isAlive { notice(index) }
    }

    /// Jobs that this replica is at, or has said to be: others may give them up.
    mutating func noteCauses(_ index: Int) {
        for work in replicas[index].work where work.copy.job >= 0 { hasCause.insert(work.copy.job) }
        let ledger = replicas[index].ledger
        let waiting = ledger.owed.flatMap(\.message.records) + ledger.outbox.map(\.record)
        for job in 0..<jobs {
            let isAt = ledger.submitting[Self.id(job)] != nil
            let isOwed = waiting.contains { record in
                switch record {
                case .begin(let request): request.id == Self.id(job)
                case .end(let id, _): id == Self.id(job)
                default: false
                }
            }
            if isAt || isOwed { hasCause.insert(job) }
        }
    }

    mutating func takeBackDeliveries(of index: Int) {
        // Redelivered elsewhere while this replica is silent, such a job may be given up.
        noteCauses(index)
        for place in replicas[index].work.indices where replicas[index].work[place].isLive {
            replicas[index].work[place].isLive = false
            if !hasOrders || roll(2) { replicas[index].work[place].seemsLive = false }
            var copy = replicas[index].work[place].copy
            guard copy.job >= 0 else { continue }
            copy.wasDelivered = true
            if replicas[index].work[place].isQuestion {
                undelivered.insert(copy, at: 0)
            } else {
                queue.insert(copy, at: 0)
            }
        }
    }

    private mutating func crash(_ index: Int) {
        guard replicas[index].isAlive else { return }
        tally.crashes += 1
        takeBackDeliveries(of: index)
        replicas[index].isAlive = false
        cut(index, isNoticed: false)
        replicas[index].isConsuming = false
        replicas[index].work = []
        // The API goes on with what it has.
        if !replicas.contains(where: \.isAlive) || roll(2) { startReplica() }
    }

    /// The power of the broker's machine fails, and the last records were not on the disk; or another node, which has less,
    /// leads the stream now: then only those who read it lose their connections.
    private mutating func loseTail() {
        note(lost: stream.count)
        let isOneMachine = roll(2)
        for index in replicas.indices where isOneMachine || replicas[index].isReading { cut(index, isNoticed: true) }
        late = []
        stream.removeLast(min(stream.count, Int.random(in: 0...8, using: &dice)))
    }

    /// A policy cuts the stream short.
    private mutating func cutFront() {
        let count = Int.random(in: 0...stream.count, using: &dice)
        note(lost: count)
        stream.removeFirst(count)
        first += count
    }

    /// Somebody deletes the stream; the next one makes it again.
    private mutating func deleteStream() {
        note(lost: stream.count)
        // What is on its way over connections that go on may get into the new one.
        for index in replicas.indices { cut(index, isNoticed: roll(2)) }
        (stream, first) = ([], 0)
        guard roll(2) else { return }
        // Those who know are away for a while, and a newcomer makes the new one.
        for index in replicas.indices {
            replicas[index].frozenUntil = now + Int.random(in: 1000...20_000, using: &dice)
            noteCauses(index)
        }
        if replicas.count(where: \.isAlive) < 5 { startReplica() }
    }

    /// Whether an order stands in the stream before the record with which a replica has begun a job; or that is not there.
    func isCancelled(_ job: Int, whenBegun index: Int) -> Bool {
        let id = Self.id(job)
        let begun = replicas[index].ledger.submitting[id]?.begun
        for place in stream.indices {
            guard let message = message(at: first + place) else { continue }
            if message.id == begun { return false }
            for case .cancel(let jobs, _) in message.records where jobs.contains(where: { $0.id == id }) { return true }
        }
        return begun == nil && hasOrders
    }

    private mutating func note(lost: Int) {
        guard lost > 0 else { return }
        tally.losses += 1
        hasLost = true
        for job in 0..<jobs { hasCause.insert(job) }
    }

    /// Whether the ledger says that a submission was accepted.
    func stands(_ submission: Int) -> Bool {
        stream.indices.contains { place in
            message(at: first + place)?.records
                .contains { record in
                    guard case .end(_, let end) = record, case .accepted(let taskID, _) = end.verdict else {
                        return false
                    }
                    return taskID == "\(submission)"
                } == true
        }
    }
}
