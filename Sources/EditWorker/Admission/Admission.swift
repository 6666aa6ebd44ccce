package import Journal
package import Logging
import NIOConcurrencyHelpers
package import SeedreamAPI
package import SharedValues

/// Lets jobs through to the API: the gate, the rate limit and the drain, for all jobs of the process.
package final class Admission: Sendable {
    /// What the intake of deliveries may do.
    package enum Intake: Hashable, Sendable {
        /// Take as many as the prefetch allows.
        case all
        /// Take one, which will be the probe.
        case probe
        /// Take none before that moment, or before something changes.
        case none(until: ContinuousClock.Instant)
        /// Take none any more.
        case ended
    }

    private struct State {
        var gate: Gate
        var schedule: StartSchedule?
        var isDraining = false
        var waiters = Waiters<Void>()
        /// Rises with every change that somebody may wait for.
        var version = 0
        /// Jobs that wait for a start of the fleet.
        var waitingForFleet = 0
        /// Whether this replica is the one that tries, before it has a job to try with.
        var hasClaim = false

        private static let never = ContinuousClock.now + .seconds(1_000_000_000)

        var intake: Intake {
            guard !isDraining else { return .ended }
            guard !gate.isPaused else { return .none(until: Self.never) }
            guard let closure = gate.closure, !closure.isHeld else { return .all }
            return .now < closure.until ? .none(until: closure.until) : .probe
        }
    }

    private let state: NIOLockedValueBox<State>
    private let metrics: WorkerMetrics
    private let logger: Logger
    private let fleet: (any Fleet)?

    /// An open gate under an optional rate limit, among other replicas or alone.
    package init(
        gate: Gate,
        rateLimit: RateLimit?,
        fleet: (any Fleet)? = nil,
        metrics: WorkerMetrics,
        logger: Logger
    ) {
        self.fleet = fleet
        self.metrics = metrics
        state = NIOLockedValueBox(State(gate: gate, schedule: rateLimit.map { StartSchedule($0) }))
        self.logger = logger
    }

    /// Why the gate is closed because of the service, nil while it is open.
    package var closure: Gate.Closure? { state.withLockedValue { $0.gate.closure } }

    /// Why no jobs are submitted, nil while they are.
    package var closedFor: GateReason? { state.withLockedValue { $0.gate.reason } }

    /// Jobs and others that wait for something here.
    package var waiting: Int { state.withLockedValue { $0.waiters.count } }

    /// Whether a job may go straight on, as nearly all do: the gate is open and there is no limit to the rate.
    fileprivate var isOpen: Bool {
        !Task.isCancelled
            && fleet?.limitsStarts != true
            && state.withLockedValue { !$0.isDraining && $0.gate.reason == nil && $0.schedule == nil }
    }

    /// Waits for leave to submit; nil if the job is to go back to its queue.
    package func enter() async -> Ticket? {
        // Most jobs need not wait, and waiting costs a suspension.
        if isOpen { return Ticket(self, isProbe: false) }
        return await waitToEnter()
    }

    private func waitToEnter() async -> Ticket? {
        // A cancelled task cannot wait, and would turn here for ever.
        while !Task.isCancelled {
            let (answer, version) = state.withLockedValue { state in
                (state.isDraining ? .giveBack : state.gate.enter(now: .now), state.version)
            }
            switch answer {
            case .giveBack: return nil
            case .wait(let until): await wait(until: until) { $0.version != version }
            case .go, .probe:
                // A probe that does not get its turn is dropped here, and with it goes its place.
                var ticket = Ticket(self, isProbe: answer == .probe)
                if ticket.isProbe, await !mayProbe() { continue }
                guard await waitForTurn() else { continue }
                guard await ticket.waitForFleet() else { continue }
                return ticket
            }
        }
        return nil
    }

    /// Lets another job be the probe.
    fileprivate func handBackProbe() {
        state.withLockedValue { $0.gate.handBackProbe() }
        wakeAll()
    }

    /// Waits for a moment that is set aside for this job; false if the gate closed or the drain began meanwhile.
    private func waitForTurn() async -> Bool {
        let (moment, version) = state.withLockedValue { ($0.schedule?.reserve(now: .now), $0.version) }
        guard let moment, moment > .now else { return true }
        await wait(until: moment) { $0.version != version }
        return moment <= .now
    }

    /// Waits for a start of the fleet; nil if the gate closed or the drain began meanwhile.
    fileprivate func fleetStart(isProbe: Bool) async -> ContinuousClock.Instant? {
        guard let fleet, fleet.limitsStarts else { return .now + .seconds(3600) }
        state.withLockedValue { $0.waitingForFleet += 1 }
        defer { state.withLockedValue { $0.waitingForFleet -= 1 } }
        while !Task.isCancelled {
            let (isOver, waiting, version) = state.withLockedValue { state in
                (
                    state.isDraining || state.gate.isPaused || !isProbe && state.gate.closure != nil,
                    state.waitingForFleet, state.version
                )
            }
            guard !isOver else { return nil }
            switch fleet.turn(waiting: waiting) {
            case .start(before: let end): return end
            case .wait(until: let until): await wait(until: until) { $0.version != version }
            case .ask: await wait(until: .now + .milliseconds(100)) { $0.version != version }
            }
        }
        return nil
    }

    /// Asks the other replicas before a probe, where they know of the closure; false if another one tries.
    package func claimProbe() async -> Bool {
        guard await mayProbe() else { return false }
        state.withLockedValue { $0.hasClaim = true }
        return true
    }

    private func mayProbe() async -> Bool {
        guard let fleet, state.withLockedValue({ $0.gate.closure?.isShared == true && !$0.hasClaim }) else {
            state.withLockedValue { $0.hasClaim = false }
            return true
        }
        if await fleet.claimProbe() { return true }
        state.withLockedValue { $0.gate.postponeProbe(now: .now) }
        wakeAll()
        return false
    }

    /// Takes over what another replica, or a person, has told the fleet.
    package func follow(_ change: FleetChange) {
        let (changed, reason) = state.withLockedValue { state -> (Bool, GateReason?) in
            let before = state.gate.reason
            switch change {
            case .paused: state.gate.isPaused = true
            case .resumed: state.gate.isPaused = false
            case .closed(let text, let delay, let isHeld):
                guard let reason = GateReason(rawValue: text), reason.isOfAccount else { break }
                _ = state.gate.follow(reason, for: delay, isHeld: isHeld, now: .now)
            case .opened: _ = state.gate.followOpening()
            case .slots: break
            }
            if state.gate.reason != nil { state.schedule?.forgetReservations() }
            return (state.gate.reason != before, state.gate.reason)
        }
        if changed {
            if reason == .paused {
                logger.log(.warning, "the fleet is paused", [.remedy: GateReason.paused.remedy])
            } else {
                report(closure)
            }
            metrics.gate(reason)
        }
        wakeAll()
    }

    /// See `Ticket.start`.
    fileprivate func start(isProbe: Bool) async -> Bool {
        while !Task.isCancelled {
            let (mayStart, later) = state.withLockedValue { state -> (Bool, ContinuousClock.Instant?) in
                guard !state.isDraining, !state.gate.isPaused, isProbe || state.gate.closure == nil else {
                    return (false, nil)
                }
                let later = state.schedule?.start(now: .now)
                return (later == nil, later)
            }
            guard let later else { return mayStart }
            await wait(until: later) { $0.isDraining }
        }
        return false
    }

    /// Closes the gate, or counts towards it, because of something else than the end of a submission.
    package func report(_ reason: GateReason) {
        leave(.serviceFault(.init(reason: reason)), job: "", isProbe: false)
    }

    /// See `Ticket.leave`.
    fileprivate func leave(_ outcome: SubmissionOutcome, job: String, isProbe: Bool) {
        let (changed, before, closure, reason) = state.withLockedValue { state in
            let before = state.gate.closure
            let changed = state.gate.leave(outcome, job: job, wasProbe: isProbe, now: .now)
            // Who waited for a start will not take it.
            if before == nil, state.gate.closure != nil { state.schedule?.forgetReservations() }
            return (changed, before, state.gate.closure, state.gate.reason)
        }
        if let fleet { tell(fleet, before, closure, isProbe: isProbe) }
        if changed {
            report(closure)
            metrics.gate(reason)
        }
        if changed || isProbe { wakeAll() }
    }

    /// Tells the other replicas what this one has found out about the account.
    private func tell(_ fleet: any Fleet, _ before: Gate.Closure?, _ now: Gate.Closure?, isProbe: Bool) {
        if let now, now.reason.isOfAccount, before == nil || isProbe {
            state.withLockedValue { $0.gate.markShared() }
            fleet.tellClosed(now.reason.rawValue, for: now.pause, isHeld: now.isHeld)
        } else if before?.isShared == true, now?.reason.isOfAccount != true {
            // Also if this replica now has a fault of its own: the others need not wait for that.
            fleet.tellOpened()
        }
    }

    /// Sends back all jobs that wait, and all that come.
    package func drain() {
        state.withLockedValue { $0.isDraining = true }
        wakeAll()
    }

    /// Waits for something that has to be there before jobs are taken, or until the drain begins.
    package func untilDrain(_ body: @escaping @Sendable () async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await body() }
            group.addTask { while !Task.isCancelled, self.intake() != .ended { await self.waitForChange() } }
            await group.next()
            group.cancelAll()
        }
    }

    private func waitForChange() async {
        let version = state.withLockedValue { $0.version }
        await wait(until: nil) { $0.version != version || $0.isDraining }
    }

    /// What the intake of deliveries may do now.
    package func intake() -> Intake {
        state.withLockedValue { $0.intake }
    }

    /// Waits as long as the intake may do just that.
    package func wait(whileIntakeIs intake: Intake) async {
        while !Task.isCancelled, self.intake() == intake {
            await wait(until: nil) { $0.intake != intake }
        }
    }

    /// Waits until the moment has come, or something has changed before.
    package func wait(until: ContinuousClock.Instant) async {
        await wait(until: until) { _ in false }
    }

    /// As above; `isOver` is asked once under the lock, so that no change is missed between a look and the wait.
    private func wait(until: ContinuousClock.Instant?, unless isOver: (State) -> Bool) async {
        let id = state.withLockedValue { $0.waiters.ticket() }
        let timer = until.map { until in
            Task {
                try? await Task.sleep(until: until, clock: .continuous)
                self.wake(id)
            }
        }
        defer { timer?.cancel() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mustWait = state.withLockedValue { state in
                    let isDue = until.map { $0 <= .now } ?? false
                    guard !isDue, !state.isDraining, !isOver(state), !Task.isCancelled else { return false }
                    state.waiters.add(continuation, as: id)
                    return true
                }
                if !mustWait { continuation.resume() }
            }
        } onCancel: {
            wake(id)
        }
    }

    private func wake(_ id: Int) {
        state.withLockedValue { $0.waiters.remove(id) }?.resume()
    }

    private func wakeAll() {
        let waiters = state.withLockedValue { state in
            state.version += 1
            return state.waiters.removeAll()
        }
        for waiter in waiters { waiter.resume() }
    }

    private func report(_ closure: Gate.Closure?) {
        guard let closure else {
            logger.log(.notice, "the gate is open")
            return
        }
        let wait = max(.zero, ContinuousClock.now.duration(to: closure.until))
        logger.log(
            .warning,
            "the gate is closed",
            [
                .reason: closure.reason.rawValue, .wait: DurationText.text(.milliseconds(wait.wholeMilliseconds)),
                .remedy: closure.reason.remedy,
            ]
        )
    }
}

/// Leave to submit one job.
///
/// The gate has it back as soon as it is dropped: if it is a probe, and nothing was submitted, the next job may be one.
package struct Ticket: ~Copyable {
    private let admission: Admission
    /// Whether the outcome of this submission decides for all.
    package let isProbe: Bool
    private var isUsed = false
    /// Until when a start of the fleet may be used.
    private var startBefore: ContinuousClock.Instant?

    fileprivate init(_ admission: Admission, isProbe: Bool) {
        self.admission = admission
        self.isProbe = isProbe
    }

    deinit {
        if isProbe, !isUsed { admission.handBackProbe() }
    }

    /// Waits for a start of the fleet, if starts are limited; false if the gate has closed or the drain has begun.
    fileprivate mutating func waitForFleet() async -> Bool {
        startBefore = await admission.fleetStart(isProbe: isProbe)
        return startBefore != nil
    }

    /// Waits until the rate limit allows a start at this very moment, and counts it; false if the gate has closed or the
    /// drain has begun since the ticket was given.
    ///
    /// To be called right before the submission: what happens in between takes its time, and the API counts the real starts.
    package mutating func start() async -> Bool {
        if admission.isOpen { return true }
        guard await admission.start(isProbe: isProbe) else { return false }
        // The start that the fleet gave may have passed while the journal was written.
        while let end = startBefore, .now > end {
            guard await waitForFleet() else { return false }
        }
        return true
    }

    /// Says how the submission ended; true if the gate is closed and holds jobs in the worker.
    package mutating func leave(_ outcome: SubmissionOutcome, job: String) -> Bool {
        isUsed = true
        admission.leave(outcome, job: job, isProbe: isProbe)
        // Only the end of a submission at which the service was at fault may hold the job.
        return outcome.isServiceFault && admission.closure?.isHeld == true
    }
}

extension GateReason {
    /// What an operator can do about it.
    package var remedy: String {
        switch self {
        case .dns: "check api.baseUrl and the name service"
        case .connect: "check api.baseUrl, the network and the API's status"
        case .tls: "check the API's certificate and api.caFile"
        case .redirect: "set api.baseUrl to the address that the API redirects to"
        case .auth: "put a valid token into api.token or its file"
        case .credits: "add credit to the account"
        case .quota: "raise the account's quota, or wait until it is renewed"
        case .forbidden: "check the account's permissions and that nothing between here and the API blocks it"
        case .endpoint: "check api.baseUrl; the API's path or protocol may have changed"
        case .rateLimited: "set worker.rateLimit below the account's limit"
        case .maintenance, .unavailable, .originDown, .serverError: "wait for the API; see its status page"
        case .noAnswer: "wait for the API, or raise api.timeout; see the jobs in the queue of unknown outcomes"
        case .featureDisabled: "ask the API's support to enable the operation"
        case .journal: "see the log for what is wrong with journal.store"
        case .budget: "wait, or raise fleet.budget; seedream-worker fleet shows what was used"
        case .paused: "end the pause with: seedream-worker fleet resume"
        case .ledger: "check the broker, and its stream that is named after the job queue with .ledger"
        case .contract: "compare the API's answers with its documentation; they cannot be read"
        }
    }
}
