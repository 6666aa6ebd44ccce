import AMQP
import EditJob
import EditWorker
import JSON
import Logging
import NIOConcurrencyHelpers
import SeedreamAPI
import TestSupport
import Testing

/// The four promises at every crash point: the worker is stopped dead before and after each effect, started again, and
/// the end is looked at.
///
/// Exhaustive over single crashes and pairs, random beyond, by a seed that a failure prints.
@Suite(.timeLimit(.minutes(2)))
struct CrashPointTests {
    /// What the API does to the job, by the class of its outcome.
    enum Class: String, CaseIterable, Sendable {
        case accepted, rejected, retry, service, silent, gateway, unreadable, invalid

        func answer(_ index: Int) -> (sighting: SubmissionSighting, isAccepted: Bool) {
            func answered(_ status: Int, _ body: String = "") -> SubmissionSighting {
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

    /// Where submissions are remembered, and what a stop takes with it.
    enum Setup: String, CaseIterable, Sendable {
        case memoryConnectionLost, sqliteKill, sqliteConnectionLost

        var stop: SimulatedWorld.Stop { self == .sqliteKill ? .kill : .connectionLost }
    }

    /// Runs one job to its end through the given crashes, and gives the world for a look.
    private static func run(
        _ outcome: Class,
        _ setup: Setup,
        _ crashes: [SimulatedWorld.CrashPoint],
        gateway: RetryPolicy.Doubtful = .retry
    ) async throws -> SimulatedWorld {
        let world = SimulatedWorld(body: outcome.body, crashes: crashes, stop: setup.stop) { outcome.answer($0) }
        let path = JournalTests.freshPath()
        var memory = MemoryJournal()
        var sqlite = setup == .memoryConnectionLost ? nil : try SQLiteJournal(path: path)
        var pipeline = JobPipeline.simulated(in: world, sqlite ?? memory, gateway: gateway)
        for _ in 0..<500 {
            guard await world.step(pipeline) else { break }
            guard world.isStopped else { continue }
            world.restart()
            // The process is gone with all that it held; the file is not.
            memory = MemoryJournal()
            await sqlite?.close()
            sqlite = nil
            if setup != .memoryConnectionLost { sqlite = try SQLiteJournal(path: path) }
            pipeline = .simulated(in: world, sqlite ?? memory, gateway: gateway)
        }
        await sqlite?.close()
        return world
    }

    /// The four promises, as words of what is broken.
    private static func broken(_ world: SimulatedWorld, _ outcome: Class) -> [String] {
        var broken: [String] = []
        let replies = world.replies
        let submitted = Set(replies.compactMap { $0["task_id"]?.text })
        let failed = Set(replies.compactMap { $0["error"]?["code"]?.text })
        if !world.isDone { broken.append("the job is still on the queue") }
        if replies.isEmpty { broken.append("lost: no reply") }
        if submitted.count > 1 { broken.append("two task ids: \(submitted)") }
        if !submitted.isEmpty, !failed.isEmpty { broken.append("two ends: \(submitted) and \(failed)") }
        if failed.count > 1 { broken.append("two failures: \(failed)") }
        let isMarked = replies.contains { $0["may_be_duplicate"] == .boolean(true) } || world.unknown > 0
        if world.accepted > 1, !isMarked { broken.append("paid \(world.accepted) times unseen") }
        if world.accepted > 0, submitted.isEmpty, world.unknown == 0 { broken.append("paid and not told") }
        if !failed.isEmpty, world.deadLetters + world.unknown == 0 { broken.append("failed without a dead letter") }
        if outcome == .service, world.deadLetters > 0 { broken.append("a sick API burned the queue") }
        // Doubt needs a reason: an answer that says little, or a process that was stopped.
        let isClear = [.accepted, .rejected, .retry, .service, .invalid].contains(outcome)
        if isClear, world.unknown > 0, world.kills == 0 { broken.append("doubtful for no reason") }
        return broken
    }

    /// The number of effects of a run without crashes.
    private static func effects(_ outcome: Class) async throws -> Int {
        try await run(outcome, .memoryConnectionLost, []).seen.count
    }

    private static func points(_ count: Int) -> [SimulatedWorld.CrashPoint] {
        (1...max(1, count)).flatMap { [.init(effect: $0, isBefore: true), .init(effect: $0, isBefore: false)] }
    }

    @Test(arguments: Class.allCases, Setup.allCases)
    func `every single crash and every pair keeps the promises`(_ outcome: Class, _ setup: Setup) async throws {
        let points = Self.points(try await Self.effects(outcome))
        var runs = points.map { [$0] }
        // Effects are counted anew after each stop, so the second place is any.
        runs += points.flatMap { first in points.map { [first, $0] } }
        for crashes in [[]] + runs {
            let world = try await Self.run(outcome, setup, crashes)
            #expect(Self.broken(world, outcome) == [], "\(outcome), \(setup), stopped \(crashes)")
        }
    }

    @Test(arguments: Setup.allCases)
    func `three to six crashes at random keep the promises`(_ setup: Setup) async throws {
        let seed = UInt64.random(in: .min ... .max)
        var random = SeededGenerator(seed: seed)
        for _ in 0..<60 {
            let outcome = Class.allCases.randomElement(using: &random) ?? .accepted
            let crashes = (0..<Int.random(in: 3...6, using: &random))
                .map { _ in
                    SimulatedWorld.CrashPoint(
                        effect: .random(in: 1...8, using: &random),
                        isBefore: .random(using: &random)
                    )
                }
            let world = try await Self.run(outcome, setup, crashes)
            #expect(Self.broken(world, outcome) == [], "seed \(seed): \(outcome), \(setup), stopped \(crashes)")
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
