import Journal
import Ledger
import NIOConcurrencyHelpers
import SeedreamAPI
import SharedValues
import TestSupport
import Testing

@testable import EditWorker

struct GateTests {
    /// A gate at a moment that the test moves.
    private final class Scene {
        private let start = ContinuousClock.now
        private var elapsed = Duration.zero
        private var gate: GateState

        init(min: Duration = .seconds(1), max: Duration = .seconds(60)) {
            gate = GateState(minDelay: min, maxDelay: max)
        }

        var closure: GateState.Closure? { gate.closure }
        var remaining: Duration? { gate.closure.map { (start + elapsed).duration(to: $0.until) } }

        func pass(_ duration: Duration) { elapsed += duration }
        func enter() -> GateState.Answer { gate.enter(now: start + elapsed) }

        func handBackProbe() { gate.handBackProbe() }

        @discardableResult
        func leave(_ outcome: SubmissionOutcome, job: String = "j", probe: Bool = false) -> Bool {
            left(outcome, job: job, probe: probe).hasChanged
        }

        func left(_ outcome: SubmissionOutcome, job: String = "j", probe: Bool = false) -> GateState.Left {
            gate.leave(outcome, job: job, wasProbe: probe, now: start + elapsed)
        }

        func enterKept() -> GateState.Answer { gate.enter(now: start + elapsed, isKept: true) }
        func keepProbe() -> Int? { gate.keepProbe() }
        func endKeptProbe(_ number: Int) { gate.endKeptProbe(number) }
        func setPaused(_ isPaused: Bool) { gate.isPaused = isPaused }
        func follow(_ reason: GateReason, for delay: Duration) {
            _ = gate.follow(reason, for: delay, isHeld: false, now: start + elapsed)
        }
    }

    private static let accepted = SubmissionOutcome.accepted(taskID: "t", nil)

    private static func fault(_ reason: GateReason, after: Duration? = nil, least: Duration? = nil) -> SubmissionOutcome
    {
        .serviceFault(.init(reason: reason, retryAfter: after, leastDelay: least))
    }

    private static func doubt(_ kind: SubmissionOutcome.Doubt.Kind) -> SubmissionOutcome {
        .unknown(.init(kind: kind))
    }

    private static let proxys503 = SubmissionOutcome.unknown(
        .init(kind: .gateway, status: 503, isOfUnavailableService: true)
    )

    @Test func `while somebody wants no submissions all go back, a probe too`() {
        let scene = Scene()
        scene.setPaused(true)
        #expect(scene.enter() == .giveBack && scene.enterKept() == .giveBack)
        scene.leave(Self.fault(.auth))
        scene.pass(.seconds(60))
        #expect(scene.enter() == .giveBack)
        scene.setPaused(false)
        #expect(scene.enter() == .probe)
    }

    @Test func `a 503 of somebody else closes it at once, and its first job is the probe`() {
        let scene = Scene()
        let first = scene.left(Self.proxys503, job: "a")
        #expect(first == .init(outcome: Self.proxys503, hasChanged: true, mayKeepProbe: true))
        #expect(scene.closure?.reason == .unavailable)
        #expect(scene.keepProbe() == 1 && scene.keepProbe() == nil)
        scene.pass(.seconds(1))
        // Nobody else is the probe, however long it takes.
        #expect(scene.enter() == .giveBack)
        #expect(scene.enterKept() == .probe)
        #expect(scene.enter() == .giveBack)
        #expect(scene.left(Self.proxys503, job: "a", probe: true).mayKeepProbe)
        #expect(scene.remaining == .seconds(2))
        scene.pass(.milliseconds(1999))
        guard case .wait(let until?) = scene.enterKept() else {
            Issue.record("it must wait")
            return
        }
        #expect(until == scene.closure?.until)
        scene.endKeptProbe(1)
        scene.pass(.milliseconds(1))
        #expect(scene.enter() == .probe)
    }

    @Test func `a probe that is kept opens it like any other`() {
        let scene = Scene()
        scene.leave(Self.proxys503)
        #expect(scene.keepProbe() == 1)
        scene.pass(.seconds(1))
        #expect(scene.enterKept() == .probe)
        #expect(scene.leave(Self.accepted, probe: true))
        #expect(scene.enter() == .go)
        // Another job is kept before the first one has its end.
        scene.leave(Self.proxys503, job: "b")
        #expect(scene.keepProbe() == 2)
        scene.endKeptProbe(1)
        scene.pass(.seconds(1))
        #expect(scene.enter() == .giveBack && scene.enterKept() == .probe)
        // Another replica's closure leaves it its place.
        scene.follow(.rateLimited, for: .seconds(1))
        scene.pass(.seconds(1))
        #expect(scene.enter() == .giveBack && scene.enterKept() == .probe)
        scene.endKeptProbe(2)
        #expect(scene.enter() == .probe)
    }

    @Test func `after three refusals that are not the API's, the next ones say nothing of their jobs`() {
        let scene = Scene()
        let refused = SubmissionOutcome.rejected(.init(status: 400, isUnfamiliar: true))
        for job in ["a", "b", "c"] { #expect(scene.left(refused, job: job).outcome == refused) }
        #expect(scene.closure?.reason == .endpoint)
        // One that was on its way already.
        #expect(scene.left(refused, job: "d").outcome == .serviceFault(.init(reason: .endpoint, status: 400)))
        #expect(scene.remaining == .seconds(1))
        for seconds in [2, 4, 8] {
            scene.pass(scene.remaining ?? .zero)
            #expect(scene.enter() == .probe)
            let left = scene.left(refused, job: "e", probe: true)
            #expect(left.outcome == .serviceFault(.init(reason: .endpoint, status: 400)))
            #expect(scene.remaining == .seconds(seconds))
        }
        // An endpoint that is not the API's may answer in several ways.
        scene.pass(scene.remaining ?? .zero)
        #expect(scene.enter() == .probe)
        scene.leave(Self.fault(.endpoint), probe: true)
        scene.pass(scene.remaining ?? .zero)
        #expect(scene.enter() == .probe)
        #expect(scene.left(refused, job: "f", probe: true).outcome.isServiceFault)
        // Another one's refusal is about its job.
        scene.pass(scene.remaining ?? .zero)
        #expect(scene.enter() == .probe)
        #expect(scene.left(.rejected(.init(status: 422)), probe: true).hasChanged)
        #expect(scene.closure == nil)
    }

    @Test func `a gate that a 404 has closed is no row of refusals`() {
        let scene = Scene()
        scene.leave(Self.fault(.endpoint))
        scene.pass(.seconds(1))
        #expect(scene.enter() == .probe)
        let refused = SubmissionOutcome.rejected(.init(status: 418, isUnfamiliar: true))
        #expect(scene.left(refused, probe: true) == .init(outcome: refused, hasChanged: true))
        #expect(scene.closure == nil)
    }

    @Test func `an open gate lets everybody through`() {
        let scene = Scene()
        #expect(scene.enter() == .go)
        #expect(!scene.leave(Self.accepted))
        #expect(!scene.leave(.rejected(.init(status: 422))))
        #expect(!scene.leave(.retry(.init(status: 409))))
        #expect(!scene.leave(Self.doubt(.silent)))
        #expect(scene.enter() == .go)
    }

    @Test func `a service fault closes it, and one probe goes after the delay`() {
        let scene = Scene()
        #expect(scene.leave(Self.fault(.auth)))
        #expect(scene.closure?.reason == .auth)
        #expect(scene.enter() == .giveBack)
        scene.pass(.milliseconds(999))
        #expect(scene.enter() == .giveBack)
        scene.pass(.milliseconds(1))
        #expect(scene.enter() == .probe)
        #expect(scene.enter() == .giveBack)
    }

    @Test(
        arguments: [
            accepted, .rejected(.init(status: 422)), .retry(.init(status: 408)),
        ] as [SubmissionOutcome]
    )
    func `a definite answer about the probe opens it`(_ outcome: SubmissionOutcome) {
        let scene = Scene()
        scene.leave(Self.fault(.unavailable))
        scene.pass(.seconds(1))
        #expect(scene.enter() == .probe)
        #expect(scene.leave(outcome, probe: true))
        #expect(scene.closure == nil)
        #expect(scene.enter() == .go)
    }

    @Test func `each failed probe doubles the delay up to the longest`() {
        let scene = Scene(min: .seconds(1), max: .seconds(10))
        scene.leave(Self.fault(.connect))
        for seconds in [2, 4, 8, 10, 10] {
            scene.pass(scene.remaining ?? .zero)
            #expect(scene.enter() == .probe)
            #expect(!scene.leave(Self.fault(.connect), probe: true))
            #expect(scene.remaining == .seconds(seconds))
        }
    }

    @Test func `a probe that submits nothing leaves its place to another`() {
        let scene = Scene()
        scene.leave(Self.fault(.auth))
        scene.pass(.seconds(1))
        #expect(scene.enter() == .probe)
        scene.handBackProbe()
        #expect(scene.enter() == .probe)
    }

    @Test func `an unknown outcome of the probe keeps it closed`() {
        for kind in [SubmissionOutcome.Doubt.Kind.silent, .gateway, .unreadable] {
            let scene = Scene()
            scene.leave(Self.fault(.unavailable))
            scene.pass(.seconds(1))
            #expect(scene.enter() == .probe)
            scene.leave(Self.doubt(kind), probe: true)
            #expect(scene.closure?.reason == .unavailable)
            #expect(scene.remaining == .seconds(2))
        }
    }

    @Test func `a straggler neither opens it nor doubles the delay`() {
        let scene = Scene()
        scene.leave(Self.fault(.auth))
        #expect(!scene.leave(Self.fault(.auth)))
        #expect(!scene.leave(Self.accepted))
        #expect(scene.remaining == .seconds(1))
        scene.leave(Self.fault(.rateLimited, after: .seconds(30)))
        #expect(scene.remaining == .seconds(30))
    }

    @Test func `a straggler that knows of a long wait sends the held ones away`() {
        let scene = Scene()
        scene.leave(Self.fault(.rateLimited, after: .seconds(5)))
        #expect(scene.closure?.isHeld == true)
        #expect(scene.leave(Self.fault(.rateLimited, after: .seconds(3600))))
        #expect(scene.closure?.isHeld == false)
        #expect(scene.remaining == .seconds(3600))
        #expect(scene.enter() == .giveBack)
    }

    @Test func `a short wait that the API asks for is held in the worker`() {
        let scene = Scene()
        scene.leave(Self.fault(.rateLimited, after: .seconds(5)))
        #expect(scene.closure?.isHeld == true)
        guard case .wait(let until?) = scene.enter() else {
            Issue.record("it must wait")
            return
        }
        #expect(until == scene.closure?.until)
        scene.pass(.seconds(5))
        #expect(scene.enter() == .probe)
        #expect(scene.enter() == .wait(until: nil))
        scene.leave(Self.accepted, probe: true)
        #expect(scene.enter() == .go)
    }

    @Test(arguments: [(15, true), (16, false), (3600, false)])
    func `a long wait is not held, and never cut short`(_ seconds: Int, _ isHeld: Bool) {
        let scene = Scene(min: .seconds(1), max: .seconds(60))
        scene.leave(Self.fault(.unavailable, after: .seconds(seconds)))
        #expect(scene.closure?.isHeld == isHeld)
        #expect(scene.remaining == .seconds(seconds))
    }

    @Test func `a 429 without a wait pauses for ten seconds and gives the jobs back`() {
        let scene = Scene()
        scene.leave(Self.fault(.rateLimited, least: .seconds(10)))
        #expect(scene.remaining == .seconds(10))
        #expect(scene.enter() == .giveBack)
    }

    @Test func `jobs are not held for ever`() {
        let scene = Scene()
        scene.leave(Self.fault(.rateLimited, after: .seconds(15)))
        var rounds = 0
        while scene.closure?.isHeld == true, rounds < 100 {
            rounds += 1
            scene.pass(.seconds(15))
            #expect(scene.enter() == .probe)
            scene.leave(Self.fault(.rateLimited, after: .seconds(15)), probe: true)
        }
        #expect(rounds == 8)
    }

    @Test func `three unreadable answers in a row close it`() {
        let scene = Scene()
        for _ in 0..<2 { #expect(!scene.leave(Self.doubt(.unreadable))) }
        scene.leave(Self.accepted)
        for _ in 0..<2 { #expect(!scene.leave(Self.doubt(.unreadable))) }
        #expect(scene.leave(Self.doubt(.unreadable)))
        #expect(scene.closure?.reason == .contract)
    }

    @Test func `five gateway errors in a row close it, whatever the jobs`() {
        let scene = Scene()
        for _ in 0..<4 { #expect(!scene.leave(Self.doubt(.gateway))) }
        scene.leave(.rejected(.init(status: 400)))
        for _ in 0..<4 { #expect(!scene.leave(Self.doubt(.gateway))) }
        #expect(scene.leave(Self.doubt(.gateway)))
        #expect(scene.closure?.reason == .serverError)
    }

    @Test func `five submissions without an answer in a row close it, whatever the jobs`() {
        let scene = Scene()
        for _ in 0..<4 { #expect(!scene.leave(Self.doubt(.silent))) }
        scene.leave(Self.accepted)
        for number in 0..<4 { #expect(!scene.leave(Self.doubt(.silent), job: "\(number)")) }
        // An answer that says little is no sign that silence is over.
        #expect(!scene.leave(Self.doubt(.gateway)))
        #expect(scene.leave(Self.doubt(.silent)))
        #expect(scene.closure?.reason == .noAnswer)
        // One probe at a time: the next only after that one's end, and later.
        scene.pass(.seconds(1))
        #expect(scene.enter() == .probe)
        #expect(scene.enter() == .giveBack)
        #expect(!scene.leave(Self.doubt(.silent), probe: true))
        #expect(scene.remaining == .seconds(2))
        scene.pass(.seconds(2))
        #expect(scene.enter() == .probe)
        scene.leave(Self.accepted, probe: true)
        for _ in 0..<4 { #expect(!scene.leave(Self.doubt(.silent))) }
    }

    @Test func `three different jobs with an unfamiliar 4xx close it`() {
        let scene = Scene()
        let outcome = SubmissionOutcome.rejected(.init(status: 418, isUnfamiliar: true))
        for job in ["a", "b", "a", "b"] { #expect(!scene.leave(outcome, job: job)) }
        #expect(scene.leave(outcome, job: "c"))
        #expect(scene.closure?.reason == .endpoint)
    }

    @Test func `a changed reason is news, the same is none`() {
        let scene = Scene()
        scene.leave(Self.fault(.connect))
        scene.pass(.seconds(1))
        #expect(scene.enter() == .probe)
        #expect(!scene.leave(Self.fault(.connect), probe: true))
        scene.pass(.seconds(2))
        #expect(scene.enter() == .probe)
        #expect(scene.leave(Self.fault(.auth), probe: true))
    }
}

struct StartScheduleTests {
    @Test func `moments that were set aside and not used are given back`() {
        var schedule = StartSchedule(RateLimit(count: 1, period: .seconds(10)))
        let now = ContinuousClock.now
        for _ in 0..<100 { _ = schedule.reserve(now: now) }
        schedule.forgetReservations()
        #expect(schedule.reserve(now: now) == now)
    }

    @Test func `no window ever has more starts than the limit`() {
        let limit = RateLimit(count: 18, period: .seconds(10))
        var schedule = StartSchedule(limit)
        var random = SystemRandomNumberGenerator()
        var clock = ContinuousClock.now
        // Each wakes up late, as on a busy machine, and then perhaps together with others.
        var wakeups = (0..<500)
            .map { _ in
                if Int.random(in: 0..<4, using: &random) == 0 { clock += .milliseconds(Int.random(in: 0..<4000)) }
                return schedule.reserve(now: clock) + .milliseconds(Int.random(in: 0..<3000))
            }
        var starts: [ContinuousClock.Instant] = []
        while let next = wakeups.min() {
            wakeups.remove(at: wakeups.firstIndex(of: next) ?? 0)
            if let later = schedule.start(now: next) { wakeups.append(later) } else { starts.append(next) }
        }
        #expect(starts.count == 500)
        for (index, start) in starts.enumerated().dropFirst(18) {
            #expect(starts[index - 18].duration(to: start) >= .seconds(10))
        }
    }
}

@Suite(.timeLimit(.minutes(10)))
struct SharedGateTests {
    /// Closes the gate as the end of a submission would.
    private static func close(_ gate: Gate) async {
        var ticket = await gate.enter()
        _ = ticket?.leave(.serviceFault(.init(reason: .auth)), job: "j")
    }

    @Test func `no start is counted before it happens, and none after the gate has closed`() async throws {
        let gate = Gate.simulated(rateLimit: RateLimit(count: 2, period: .milliseconds(200)))
        var first = await gate.enter()
        var second = await gate.enter()
        var third = await gate.enter()
        // All three come late and at once; the API must not see them so.
        let start = ContinuousClock.now
        #expect(await first?.starts() == true)
        #expect(await second?.starts() == true)
        #expect(await third?.starts() == true)
        #expect(start.duration(to: .now) >= .milliseconds(199))
        var late = await gate.enter()
        gate.report(.auth)
        #expect(await late?.starts() == false)
        guard var probe = await gate.enter() else {
            Issue.record("there must be a probe")
            return
        }
        let (isProbe, isStarted) = (probe.isProbe, await probe.starts())
        #expect(isProbe && isStarted)
    }

    @Test func `a probe that is dropped leaves its place to the next`() async throws {
        let gate = Gate.simulated()
        await Self.close(gate)
        #expect(await gate.enter()?.isProbe == true)
        // The one before was dropped at once.
        guard var probe = await gate.enter() else {
            Issue.record("there must be a probe")
            return
        }
        // Another one meanwhile goes back.
        let isBack = await gate.enter() == nil
        #expect(isBack)
        _ = probe.leave(.accepted(taskID: "t", nil), job: "j")
        #expect(await gate.enter()?.isProbe == false)
    }

    @Test func `a ledger that is there again opens the gate without a job, and no other gate`() async throws {
        for (reason, isOpen) in [(GateReason.ledger, true), (.auth, false)] {
            let gate = Gate.simulated(
                machine: GateState(minDelay: .seconds(1000), maxDelay: .seconds(1000))
            )
            gate.report(reason)
            #expect(await gate.enter() == nil)
            gate.follow(.ready)
            #expect(gate.closedFor == (isOpen ? nil : reason))
            #expect(await gate.enter()?.isProbe == (isOpen ? false : nil))
        }
    }

    @Test func `a refused token is looked with once per pause, and opens the gate when it is taken`() {
        let gate = Gate.simulated(machine: GateState(minDelay: .seconds(1000), maxDelay: .seconds(1000)))
        #expect(gate.mayLook(hasNewToken: false) == .go)
        gate.leaveLook(.go, isTokenTaken: false)
        #expect(gate.closedFor == .auth)
        #expect(gate.mayLook(hasNewToken: false) == .refused)
        // Another token may be tried at once.
        #expect(gate.mayLook(hasNewToken: true) == .go)
        gate.leaveLook(.go, isTokenTaken: true)
        #expect(gate.closedFor == nil)
    }

    @Test func `of many looks that are due after the pause one is the probe`() async throws {
        let gate = Gate.simulated()
        gate.report(.auth)
        try await eventually("the pause is over") { gate.mayLook(hasNewToken: false) == .probe }
        #expect(gate.mayLook(hasNewToken: false) == .refused)
        // No job is taken for the probe meanwhile.
        if case .none = gate.intake() {} else { Issue.record("\(gate.intake())") }
        // One that says nothing of the token has used it all the same: the next comes after a pause.
        gate.leaveLook(.probe, isTokenTaken: nil)
        try await eventually("the pause is over") { gate.mayLook(hasNewToken: false) == .probe }
    }

    @Test func `a task that is cancelled while it waits goes back at once`() async throws {
        let gate = Gate.simulated(rateLimit: RateLimit(count: 1, period: .seconds(1000)))
        #expect(await gate.enter()?.isProbe == false)
        let waiting = Task { await gate.enter() == nil }
        try await eventually("it waits") { gate.waiting > 0 }
        waiting.cancel()
        #expect(await waiting.value)
    }

    @Test func `a pause that stands is taken over before the first job is taken`() async throws {
        let fleet = ScriptedFleet()
        let gate = Gate.simulated(fleet: fleet)
        let following = Task { await gate.followFleet {} }
        let hearing = Task { await gate.waitUntilFleetIsHeard() }
        try await eventually("it waits") { gate.waiting > 0 }
        fleet.tell(.paused)
        fleet.tell(.ready)
        await hearing.value
        #expect(gate.intake() != .all && gate.closedFor == .paused && fleet.gate == "paused")
        following.cancel()
        await following.value
    }

    @Test func `the drain ends the wait for what stands in the fleet`() async {
        let gate = Gate.simulated(fleet: ScriptedFleet())
        gate.drain()
        await gate.waitUntilFleetIsHeard()
        #expect(gate.intake() == .ended)
    }

    @Test func `the drain sends a probe back that waits for its start`() async throws {
        let gate = Gate.simulated(rateLimit: RateLimit(count: 1, period: .seconds(1000)))
        var first = await gate.enter()
        #expect(await first?.starts() == true)
        gate.report(.auth)
        let waiting = Task {
            guard var probe = await gate.enter() else { return (false, false) }
            return (probe.isProbe, await probe.starts())
        }
        try await eventually("it waits") { gate.waiting > 0 }
        gate.drain()
        let (isProbe, isStarted) = await waiting.value
        #expect(isProbe)
        #expect(!isStarted)
    }
}

/// A fleet that says what a test tells it.
private final class ScriptedFleet: Fleet {
    let changes: AsyncStream<FleetChange>
    private let continuation: AsyncStream<FleetChange>.Continuation
    private let told = NIOLockedValueBox<String?>(nil)

    init() {
        (changes, continuation) = AsyncStream.makeStream()
    }

    /// Why the gate submits nothing, as it has said.
    var gate: String? { told.withLockedValue { $0 } }
    var limitsStarts: Bool { false }

    func tell(_ change: FleetChange) { continuation.yield(change) }
    func tellGate(_ reason: String?) { told.withLockedValue { $0 = reason } }
    func turn(waiting: Int) -> FleetSlots.Turn { .start(before: .now + .seconds(60)) }
    func tellClosed(_ reason: String, for delay: Duration, isHeld: Bool) {}
    func tellOpened() {}
    func claimProbe() async -> Bool { true }
}
