import Ledger
import SharedValues
import TestSupport
import Testing

/// The shared rate limit under delays, freezes and crashes: what the API sees.
@Suite(.ownThread, .timeLimit(.ofLongTests))
struct FleetSlotsTests {
    private struct Replica {
        var slots: FleetSlots
        var isAlive = true
        var frozenUntil = 0
        /// Own messages on their way to the stream: when they were published, and for how many slots.
        ///
        /// The first greets.
        var outgoing: [(published: Int, count: Int)]
        var next = 0
        var delay = 0
        var retryAt = 0
    }

    private struct Run {
        var starts: [Int] = []
        var demandedFrom = 0
        var end = 0
    }

    private static let zero = ContinuousClock.now
    private static func moment(_ milliseconds: Int) -> ContinuousClock.Instant { zero + .milliseconds(milliseconds) }

    /// One schedule in steps of some milliseconds; with `isCalm` nothing goes wrong.
    private static func run(_ seed: UInt64, _ limit: RateLimit, isCalm: Bool, duration: Int) -> Run {
        var dice = SeededGenerator(seed: seed)
        func roll(_ sides: Int) -> Bool { Int.random(in: 0..<sides, using: &dice) == 0 }
        var stream: [(replica: Int, published: Int, count: Int)] = []
        func replica(_ now: Int) -> Replica { Replica(slots: FleetSlots(limit), outgoing: [(now, 0)]) }
        var replicas = (0..<Int.random(in: 1...5, using: &dice)).map { _ in replica(0) }
        var run = Run()
        var now = 0
        while now < duration {
            now += isCalm ? 2 : Int.random(in: 1...8, using: &dice)
            if !isCalm, roll(400) {
                let index = Int.random(in: replicas.indices, using: &dice)
                switch Int.random(in: 0..<4, using: &dice) {
                case 0: replicas[index].frozenUntil = now + Int.random(in: 100...9000, using: &dice)
                case 1: replicas[index].delay = Int.random(in: 0...900, using: &dice)
                case 2: replicas[index].isAlive = false
                default: if replicas.count < 12 { replicas.append(replica(now)) }
                }
            }
            for index in replicas.indices where replicas[index].isAlive && replicas[index].frozenUntil <= now {
                if let first = replicas[index].outgoing.first,
                    now >= first.published + (isCalm ? 1 : replicas[index].delay / 2)
                {
                    replicas[index].outgoing.removeFirst()
                    stream.append((index, first.published, first.count))
                }
                // Reads late by its own delay; after a freeze all at once.
                while replicas[index].next < stream.count, isCalm || replicas[index].delay < 20 || roll(20) {
                    let record = stream[replicas[index].next]
                    replicas[index].next += 1
                    if record.replica == index {
                        replicas[index].slots.readOwnMessage(publishedAt: moment(record.published))
                    }
                    replicas[index].slots.readSlots(record.count, isOwn: record.replica == index, now: moment(now))
                }
                var turns = 0
                while turns < 40 {
                    turns += 1
                    let turn = replicas[index].slots.turn(waiting: 50, now: moment(now))
                    if case .start(before: _) = turn {
                        run.starts.append(now)
                        continue
                    }
                    if case .ask(let count) = turn { replicas[index].outgoing.append((now, count)) }
                    break
                }
            }
        }
        run.end = now
        return run
    }

    /// The most starts within any window of a length.
    private static func most(_ starts: [Int], within window: Int) -> Int {
        let starts = starts.sorted()
        var (most, first) = (0, 0)
        for last in starts.indices {
            while starts[last] - starts[first] >= window { first += 1 }
            most = max(most, last - first + 1)
        }
        return most
    }

    @Test func `no window has more starts than the limit, whatever is late, frozen, killed or new`() throws {
        for seed in 0..<TestSize.choose(quick: 20, usual: 200, full: 4000) as Range<UInt64> {
            let limit = try #require(RateLimit(seed % 2 == 0 ? "20/5s" : "7/2s"))
            let run = Self.run(seed, limit, isCalm: false, duration: 25_000)
            let most = Self.most(run.starts, within: seed % 2 == 0 ? 5000 : 2000)
            #expect(most <= limit.count, "seed \(seed): \(most) starts")
            if most > limit.count { return }
        }
    }

    @Test func `a long history does not keep a replica waiting`() throws {
        var slots = FleetSlots(try #require(RateLimit("20/10s")))
        for _ in 0..<5000 { slots.readSlots(1, isOwn: false, isCatchingUp: true, now: Self.moment(0)) }
        slots.readOwnMessage(publishedAt: Self.moment(0))
        guard case .wait = slots.turn(waiting: 1, now: Self.moment(9000)) else {
            Issue.record("the last starts of the others are not respected")
            return
        }
        #expect(slots.turn(waiting: 1, now: Self.moment(21_500)) == .ask(1))
    }

    @Test(arguments: ["20/10s", "20/5s", "100/5s", "10/5s"])
    func `at least 90 per cent of the limit are used while work waits`(_ text: String) throws {
        let limit = try #require(RateLimit(text))
        let period = Int(limit.period / .milliseconds(1))
        for seed in 0..<5 as Range<UInt64> {
            let run = Self.run(seed, limit, isCalm: true, duration: 20 * period)
            let possible = 20 * limit.count
            #expect(run.starts.count * 10 >= possible * 9, "seed \(seed): \(run.starts.count) of \(possible)")
        }
    }
}
