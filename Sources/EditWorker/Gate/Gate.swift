package import Logging
import NIOConcurrencyHelpers
package import SeedreamAPI
package import SharedValues
import Telemetry

/// Lets jobs through to the API, or not: closures, pauses, the rate limit and the drain, for all jobs of the process.
package final class Gate: Sendable {
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

    struct State {
        var machine: GateState
        var schedule: StartSchedule?
        var isDraining = false
        var waiters = Waiters<Void>()
        /// Rises with every change that a job may wait for.
        var version = 0
        /// Jobs that wait for a start of the fleet.
        var waitingForFleet = 0
        /// Whether this replica is the one that tries, before it has a job to try with.
        var hasClaim = false
        /// Whether the fleet, if there is one, has said what stands: a pause, a closure.
        var hasHeardFleet: Bool

        private static let never = ContinuousClock.now + .seconds(1_000_000_000)

        var intake: Intake {
            guard !isDraining else { return .ended }
            guard !machine.isPaused else { return .none(until: Self.never) }
            guard let closure = machine.closure, !closure.isHeld else { return .all }
            guard !machine.isProbeKept, !machine.isLooking else { return .none(until: Self.never) }
            return .now < closure.until ? .none(until: closure.until) : .probe
        }
    }

    let state: NIOLockedValueBox<State>
    let metrics: WorkerMetrics
    let logger: Logger
    let fleet: (any Fleet)?

    /// An open gate under an optional rate limit, among other replicas or alone.
    package init(
        machine: GateState,
        rateLimit: RateLimit?,
        fleet: (any Fleet)? = nil,
        metrics: WorkerMetrics,
        logger: Logger
    ) {
        self.fleet = fleet
        self.metrics = metrics
        state = NIOLockedValueBox(
            State(
                machine: machine,
                schedule: rateLimit.map { StartSchedule($0) },
                hasHeardFleet: fleet == nil
            )
        )
        self.logger = logger
    }

    /// Why the gate is closed because of the service, nil while it is open.
    package var closure: GateState.Closure? { state.withLockedValue { $0.machine.closure } }

    /// Why no jobs are submitted, nil while they are.
    package var closedFor: GateReason? { state.withLockedValue { $0.machine.reason } }

    /// Whether a job may go straight on, as nearly all do: the gate is open and there is no limit to the rate.
    var isOpen: Bool {
        !Task.isCancelled
            && fleet?.limitsStarts != true
            && state.withLockedValue { !$0.isDraining && $0.machine.reason == nil && $0.schedule == nil }
    }

    /// Whether starts are limited, here or in the fleet.
    var countsStarts: Bool { fleet?.limitsStarts == true || state.withLockedValue { $0.schedule != nil } }

    /// Waits for leave to submit; nil if the job is to go back to its queue.
    ///
    /// The job that is kept as the probe has until `keptUntil`.
    package func enter(keptUntil: ContinuousClock.Instant? = nil) async -> Ticket? {
        // Most jobs need not wait, and waiting costs a suspension.
        if isOpen { return Ticket(self, isProbe: false) }
        return await waitToEnter(keptUntil)
    }

    private func waitToEnter(_ keptUntil: ContinuousClock.Instant?) async -> Ticket? {
        // A cancelled task cannot wait, and would turn here for ever.
        while !Task.isCancelled {
            let (answer, version) = state.withLockedValue { state in
                let isKept = keptUntil != nil
                return (state.isDraining ? .giveBack : state.machine.enter(now: .now, isKept: isKept), state.version)
            }
            switch answer {
            case .giveBack: return nil
            case .wait(let until):
                if let keptUntil, until.map({ $0 >= keptUntil }) ?? true { return nil }
                await wait(until: until) { $0.version != version }
            case .go, .probe:
                // A probe that does not get its turn is dropped here, and with it goes its place.
                let ticket = Ticket(self, isProbe: answer == .probe)
                if ticket.isProbe, await !mayProbe() { continue }
                guard await waitForTurn() else { continue }
                return ticket
            }
        }
        return nil
    }

    func keepProbe() -> Int? { state.withLockedValue { $0.machine.keepProbe() } }

    func endKeptProbe(_ number: Int) {
        state.withLockedValue { $0.machine.endKeptProbe(number) }
        wakeAll()
    }

    /// Lets another job be the probe.
    func handBackProbe() {
        state.withLockedValue { $0.machine.handBackProbe() }
        wakeAll()
    }

    /// Waits for a moment that is set aside for this job; false if the gate closed or the drain began meanwhile.
    private func waitForTurn() async -> Bool {
        let (moment, version) = state.withLockedValue { ($0.schedule?.reserve(now: .now), $0.version) }
        guard let moment, moment > .now else { return true }
        await wait(until: moment) { $0.version != version }
        return moment <= .now
    }

    /// Waits until the rate limit allows a start at this very moment, and counts it; false if the gate has closed or the drain
    /// has begun.
    func start(isProbe: Bool) async -> Bool {
        while !Task.isCancelled {
            let (mayStart, later) = state.withLockedValue { state -> (Bool, ContinuousClock.Instant?) in
                guard !state.isDraining, !state.machine.isPaused, isProbe || state.machine.closure == nil else {
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
        _ = leave(.serviceFault(.init(reason: reason)), job: "", isProbe: false)
    }

    /// See `Ticket.leave`.
    func leave(_ outcome: SubmissionOutcome, job: String, isProbe: Bool) -> GateState.Left {
        let (left, before, closure) = state.withLockedValue { state in
            let before = state.machine.closure
            let left = state.machine.leave(outcome, job: job, wasProbe: isProbe, now: .now)
            // Who waited for a start will not take it.
            if before == nil, state.machine.closure != nil { state.schedule?.forgetReservations() }
            if left.hasChanged { show(state.machine.reason) }
            return (left, before, state.machine.closure)
        }
        if let fleet { tell(fleet, before, closure, isProbe: isProbe) }
        if left.hasChanged {
            report(closure)
        }
        if left.hasChanged || isProbe { wakeAll() }
        return left
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
    func wait(until: ContinuousClock.Instant?, unless isOver: (State) -> Bool) async {
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

    func wakeAll() {
        let waiters = state.withLockedValue { state in
            state.version += 1
            return state.waiters.removeAll()
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Shows why nothing is submitted, to those who measure and to the other replicas.
    ///
    /// To be called under the lock: of two changes the last is to be seen.
    func show(_ reason: GateReason?) {
        metrics.gate(reason)
        fleet?.tellGate(reason?.rawValue)
    }

    func report(_ closure: GateState.Closure?) {
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
                .remedy: closure.remedy,
            ]
        )
    }
}
