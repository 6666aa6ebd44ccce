import EditJob
import EditWorker
import JSON
import Journal
import Logging
import NIOConcurrencyHelpers
import RabbitMQ
import SeedreamAPI
import SharedValues
import TestSupport
import Testing

/// The four promises at every crash point: the worker is stopped dead before and after each effect, started again, and
/// the end is looked at.
///
/// Exhaustive over single crashes, and over pairs at full size; random beyond, by a seed that a failure prints.
@Suite(.ownThread, .timeLimit(.ofLongTests))
struct CrashPointTests {
    /// What the API does to the job, by the class of its outcome.
    enum Class: String, CaseIterable, Sendable {
        case accepted, rejected, retry, service, silent, gateway, unreadable, invalid

        func answer(_ index: Int) -> (result: SubmissionResult, isAccepted: Bool) {
            func answered(_ status: Int, _ body: String = "") -> SubmissionResult {
                .answered(APIAnswer(status: status, body: .complete(Array(body.utf8))))
            }
            let accepted = (answered(200, #"{"task_id":"task-\#(index)"}"#), true)
            return switch self {
            case .accepted, .invalid: accepted
            case .rejected: (answered(422), false)
            case .retry: index == 0 ? (answered(408), false) : accepted
            case .service: index == 0 ? (answered(401), false) : accepted
            // The worst that each may be: the API has taken the job.
            case .silent: (.failed(.connectionEnded), true)
            case .gateway: index == 0 ? (answered(502), true) : accepted
            case .unreadable: (answered(200, "<html>"), true)
            }
        }

        var body: String { self == .invalid ? "{}" : #"{"image_urls":["https://a"],"prompt":"x"}"# }
    }

    /// Where submissions are remembered, what a stop takes with it, and who gets the job then.
    enum Setup: String, CaseIterable, Sendable {
        case memoryConnectionLost, memoryKill, sqliteKill, sqliteConnectionLost
        /// Two replicas, each with a journal of its own; after a stop the other one gets the job.
        case memoryEachKill, memoryEachConnectionLost, sqliteEachKill
        /// Two replicas with one ledger.
        case ledgerKill, ledgerConnectionLost

        var stop: SimulatedWorld.Stop {
            switch self {
            case .memoryConnectionLost, .sqliteConnectionLost, .memoryEachConnectionLost, .ledgerConnectionLost:
                .connectionLost
            case .memoryKill, .sqliteKill, .memoryEachKill, .sqliteEachKill, .ledgerKill: .kill
            }
        }

        var hasLedger: Bool { [.ledgerKill, .ledgerConnectionLost].contains(self) }

        var hasFile: Bool { [.sqliteKill, .sqliteConnectionLost, .sqliteEachKill].contains(self) }
        var replicas: Int {
            hasLedger || [.memoryEachKill, .memoryEachConnectionLost, .sqliteEachKill].contains(self) ? 2 : 1
        }
        /// Whether whoever gets the job after a stop has the journal that it was written into.
        var keepsJournal: Bool { hasLedger || replicas == 1 && self != .memoryKill }
    }

    /// What happens to the job at the first stop, or before its first delivery if there is none.
    enum Event: String, CaseIterable, Sendable {
        /// The broker takes it out of its queue.
        case expires
        /// An operator cancels it.
        case cancelled
    }

    /// Runs one job to its end through the given crashes, and gives the world for a look.
    private static func run(
        _ outcome: Class,
        _ setup: Setup,
        _ crashes: [SimulatedWorld.CrashPoint],
        event: Event? = nil,
        gateway: DoubtPolicy = .retry,
        noAnswer: DoubtPolicy = .park
    ) async throws -> SimulatedWorld {
        let fold = FoldJournal.Shared()
        let world = SimulatedWorld(body: outcome.body, crashes: crashes, stop: setup.stop) { outcome.answer($0) }
        let paths = (0..<setup.replicas).map { _ in TemporaryFile.path("journal") }
        typealias Worker = (journal: any SubmissionJournal, pipeline: JobPipeline, undelivered: UndeliveredJobs)
        func start(_ path: String) throws -> Worker {
            let journal: any SubmissionJournal
            if setup.hasLedger {
                journal = FoldJournal(fold)
            } else {
                journal = setup.hasFile ? try SQLiteJournal(path: path) : MemoryJournal()
            }
            return (
                journal, .simulated(in: world, journal, gateway: gateway, noAnswer: noAnswer),
                .simulated(in: world, journal)
            )
        }
        var replicas = try paths.map { try start($0) }
        var turn = 0
        // With a journal in memory nothing waits, and other tests would have to for seconds.
        await Task.yield()
        var hasHappened = false
        for _ in 0..<500 {
            let wasCrashed = world.crashedAt
            if !hasHappened, crashes.isEmpty || !wasCrashed.isEmpty {
                hasHappened = true
                if event == .cancelled { fold.cancel("job") }
            }
            let isTaken =
                event == .expires && hasHappened
                ? await world.step(replicas[turn].undelivered) : await world.step(replicas[turn].pipeline)
            guard isTaken else { break }
            if world.isStopped {
                world.restart()
                // The process is gone with all that it held; the file is not.
                await replicas[turn].journal.close()
                replicas[turn] = try start(paths[turn])
            }
            if world.crashedAt != wasCrashed { turn = (turn + 1) % setup.replicas }
        }
        for replica in replicas { await replica.journal.close() }
        return world
    }

    /// The four promises, as words of what is broken.
    private static func broken(_ world: SimulatedWorld, _ outcome: Class, _ setup: Setup) -> [String] {
        var broken: [String] = []
        let replies = world.replies
        let submitted = Set(replies.compactMap { $0["task_id"]?.text })
        var failed = Set(replies.compactMap { $0["error"]?["code"]?.text })
        if !failed.isEmpty, world.deadLetters + world.unknown == 0 { broken.append("failed without a dead letter") }
        // Who has not the journal of the one before cannot know that there was an end, and says that it does not know.
        if !setup.keepsJournal, world.isRedelivered, failed.count + submitted.count > 1 {
            failed.remove("outcome_unknown")
        }
        if !world.isDone { broken.append("the job is still on the queue") }
        if replies.isEmpty { broken.append("lost: no reply") }
        // The policy submits a gateway's doubt again, and marks it; who has another journal does not know how that ended.
        let mayBeTwo = outcome == .gateway && !setup.keepsJournal && world.isRedelivered
        if submitted.count > 1, !mayBeTwo { broken.append("two task ids: \(submitted)") }
        if !submitted.isEmpty, !failed.isEmpty { broken.append("two ends: \(submitted) and \(failed)") }
        if failed.count > 1 { broken.append("two failures: \(failed)") }
        let isMarked = replies.contains { $0["may_be_duplicate"] == .boolean(true) } || world.unknown > 0
        if world.accepted > 1, !isMarked { broken.append("paid \(world.accepted) times unseen") }
        if world.accepted > 0, submitted.isEmpty, world.unknown == 0 { broken.append("paid and not told") }
        if outcome == .service, world.deadLetters > 0 { broken.append("a sick API burned the queue") }
        // Doubt needs a reason: an answer that says little, or a delivery that came again, perhaps from somebody else.
        let isClear = [.accepted, .rejected, .retry, .service, .invalid].contains(outcome)
        if isClear, world.unknown > 0, !world.isRedelivered { broken.append("doubtful for no reason") }
        if outcome == .invalid, world.unknown > 0 { broken.append("an invalid job is doubtful") }
        return broken
    }

    /// The number of effects of a run without crashes.
    private static func effects(_ outcome: Class) async throws -> Int {
        try await run(outcome, .memoryConnectionLost, []).seen.count
    }

    private static func points(_ count: Int) -> [SimulatedWorld.CrashPoint] {
        (1...max(1, count)).flatMap { [.init(effect: $0, isBefore: true), .init(effect: $0, isBefore: false)] }
    }

    /// Pairs of stops: none, some for each first one, or all.
    private static func pairs(_ points: [SimulatedWorld.CrashPoint]) -> [[SimulatedWorld.CrashPoint]] {
        let most = TestSize.choose(quick: 0, usual: 4, full: Int.max)
        return points.flatMap { first in points.shuffled().prefix(most).map { [first, $0] } }
    }

    @Test(arguments: Class.allCases, Setup.allCases)
    func `every single crash, and each with another, keeps the promises`(_ outcome: Class, _ setup: Setup) async throws
    {
        let points = Self.points(try await Self.effects(outcome))
        var runs = points.map { [$0] }
        // Effects are counted anew after each stop, so the second place is any.
        runs += Self.pairs(points)
        for crashes in [[]] + runs {
            let world = try await Self.run(outcome, setup, crashes)
            #expect(Self.broken(world, outcome, setup) == [], "\(outcome), \(setup), stopped \(crashes)")
        }
    }

    @Test(arguments: Class.allCases, [Setup.ledgerKill, .ledgerConnectionLost, .sqliteKill, .memoryConnectionLost])
    func `a job that expires or is cancelled after any stop has one end`(_ outcome: Class, _ setup: Setup) async throws
    {
        for event in Event.allCases where event == .expires || setup.hasLedger {
            let points = Self.points(try await Self.effects(outcome))
            for crashes in [[]] + points.map({ [$0] }) + Self.pairs(points) {
                let world = try await Self.run(outcome, setup, crashes, event: event)
                let comment = Comment("\(outcome), \(setup), \(event), stopped \(crashes)")
                // It fails for a reason of its own, and a store of one host does not know what others have submitted.
                let broken = Self.broken(world, outcome, setup)
                    .filter {
                        $0 != "a sick API burned the queue" && (setup.hasLedger || $0 != "doubtful for no reason")
                    }
                #expect(broken == [], comment)
                let codes = Set(world.replies.compactMap { $0["error"]?["code"]?.text })
                #expect(
                    !crashes.isEmpty || outcome == .invalid || codes == [event == .expires ? "expired" : "cancelled"],
                    comment
                )
                if crashes.isEmpty { #expect(world.submissions == 0, comment) }
            }
        }
    }

    @Test(arguments: [Setup.memoryKill, .memoryEachKill, .sqliteEachKill])
    func `what may be submitted again by a policy is marked, whoever gets it`(_ setup: Setup) async throws {
        for outcome in Class.allCases where outcome != .invalid {
            let points = Self.points(try await Self.effects(outcome))
            let pairs = Self.pairs(points)
            for crashes in points.map({ [$0] }) + pairs {
                let world = try await Self.run(outcome, setup, crashes, noAnswer: .retry)
                let broken = Self.broken(world, outcome, setup).filter { !$0.hasPrefix("two task ids") }
                #expect(broken == [], "\(outcome), \(setup), stopped \(crashes)")
            }
        }
    }

    @Test(arguments: Setup.allCases)
    func `three to six crashes at random keep the promises`(_ setup: Setup) async throws {
        let seed = UInt64.random(in: .min ... .max)
        var random = SeededGenerator(seed: seed)
        for _ in 0..<TestSize.choose(quick: 5, usual: 60, full: 5000) {
            let outcome = Class.allCases.randomElement(using: &random) ?? .accepted
            let crashes = (0..<Int.random(in: 3...6, using: &random))
                .map { _ in
                    SimulatedWorld.CrashPoint(
                        effect: .random(in: 1...8, using: &random),
                        isBefore: .random(using: &random)
                    )
                }
            let world = try await Self.run(outcome, setup, crashes)
            #expect(Self.broken(world, outcome, setup) == [], "seed \(seed): \(outcome), \(setup), stopped \(crashes)")
        }
    }

    @Test func `every effect of the pipeline is stopped before and after`() async throws {
        var crashed: Set<String> = []
        for outcome in Class.allCases {
            for point in Self.points(try await Self.effects(outcome)) {
                crashed.formUnion(try await Self.run(outcome, .sqliteKill, [point]).crashedAt)
            }
        }
        for effect in SimulatedWorld.Effect.allCases {
            for place in ["before", "after"] {
                #expect(crashed.contains("\(place) \(effect.rawValue)"), "never stopped \(place) \(effect)")
            }
        }
    }
}
