import AMQP
import EditJob
import NIOConcurrencyHelpers
import SharedValues

// What the replicas do together beside their jobs: one rate, one budget, one gate for the account, one pause.

/// Something that another replica, or a person, has told the fleet.
package enum FleetChange: Hashable, Sendable {
    /// Nobody submits any more.
    case paused
    /// Submissions may go on.
    case resumed
    /// The account takes nothing for so long, as another replica has found.
    case closed(reason: String, Duration, isHeld: Bool)
    /// The account takes jobs again.
    case opened
    /// This replica has starts that it waited for.
    case slots
    /// The ledger can be used again.
    case ready
    /// The node does not answer: all connections to it are given up.
    case silent
}

extension LedgerJournal {
    /// After so long without an own heartbeat this replica takes another node: one that was cut off from the others keeps the
    /// connections of its clients open.
    private static let longestSilence = Duration.seconds(20)
    /// For display a replica that was silent for longer does not live, in milliseconds.
    private static let shownSilence: Int64 = 30_000

    /// Says who hears of changes, and who knows why the gate is closed.
    package func connect(
        onChange: @escaping @Sendable (FleetChange) -> Void,
        gate: @escaping @Sendable () -> String?
    ) {
        state.withLockedValue { state in
            state.onFleetChange = onChange
            state.gate = gate
        }
    }

    /// Whether starts wait for the fleet's rate limit.
    package var limitsStarts: Bool { options.rateLimit != nil }

    /// Whether a job may start, one of so many that wait; never `ask`.
    ///
    /// From any thread. `FleetChange.slots` tells when to ask again before the moment that is given.
    package func turn(waiting: Int) -> FleetSlots.Turn {
        let now = ContinuousClock.now
        let (turn, mustPump) = state.withLockedValue { state -> (FleetSlots.Turn, Bool) in
            guard var slots = state.slots else { return (.start(before: now + .seconds(60)), false) }
            defer { state.slots = slots }
            let turn = slots.turn(waiting: waiting, now: now)
            guard case .ask(let count) = turn else { return (turn, false) }
            state.replica.write(.slots(count))
            return (.wait(until: now + .seconds(1)), true)
        }
        if mustPump { pump() }
        return turn
    }

    /// Writes down how a task ended that was followed; nil if its images are there.
    package func tellFollowed(_ id: String, taskID: String, code: String?) {
        post(.followed(id: id, taskID: taskID, code: code))
    }

    /// Tells the others that the account takes nothing.
    package func tellClosed(_ reason: String, for delay: Duration, isHeld: Bool) {
        post(.closed(reason: reason, milliseconds: max(0, delay.wholeMilliseconds), isHeld: isHeld))
    }

    /// Tells the others that the account takes jobs again.
    package func tellOpened() {
        guard let closure = state.withLockedValue({ $0.replica.state.fleet.closure }) else { return }
        post(.opened(closure: closure.offset))
    }

    /// Whether this replica may be the one that tries whether the account takes jobs again.
    package func claimProbe() async -> Bool {
        let (closure, name) = state.withLockedValue { ($0.replica.state.fleet.closure, $0.replica.name) }
        guard let closure else { return true }
        if let probe = closure.probe, probe.replica != name {
            // Who tries has as long as a submission takes, and then is taken for gone if it is.
            guard isGone(probe) else { return false }
        }
        await write(.probe(closure: closure.offset, after: closure.probe?.offset))
        return state.withLockedValue { state in
            guard let now = state.replica.state.fleet.closure else { return true }
            return now.offset != closure.offset || now.probe?.replica == name
        }
    }

    /// What of a message that was just applied is news to this replica.
    static func changes(
        in state: inout State,
        after message: LedgerMessage,
        isNew: Bool,
        pause: FleetState.Pause?,
        closure: FleetState.Closure?,
        wasUpToDate: Bool
    ) -> [FleetChange] {
        let isOwn = message.replica == state.replica.name
        var changes: [FleetChange] = []
        if isNew, var slots = state.slots {
            if isOwn, let moment = state.ownMessages.publishedAt(message.number) {
                slots.readOwnMessage(publishedAt: moment)
            }
            for case .slots(let count) in message.records {
                slots.readSlots(count, isOwn: isOwn, isCatchingUp: !wasUpToDate, now: .now)
                if isOwn { changes.append(.slots) }
            }
            // What was asked for on an old connection is asked for again.
            if !wasUpToDate, state.replica.isUpToDate { slots.forgetQuestion() }
            state.slots = slots
        }
        guard state.replica.isUpToDate else { return [] }
        let fleet = state.replica.state.fleet
        // After the replay, all that stands; then what is new.
        let (pause, closure) = wasUpToDate ? (pause, closure) : (nil, nil)
        // Also an order that was taken back meanwhile.
        if !wasUpToDate || fleet.pause != pause { changes.append(fleet.pause == nil ? .resumed : .paused) }
        if fleet.closure?.offset != closure?.offset {
            if let closed = fleet.closure {
                if closed.replica != state.replica.name || !wasUpToDate {
                    let delay = Duration.milliseconds(closed.milliseconds)
                    changes.append(.closed(reason: closed.reason, delay, isHeld: closed.isHeld))
                }
            } else {
                changes.append(.opened)
            }
        }
        return changes
    }

    /// Whether the replica that is submitting a job is gone.
    func isGone(_ holder: LedgerState.Holder) -> Bool {
        state.withLockedValue { state in
            holder.replica != state.replica.name && state.silence.isGone(holder.replica)
        }
    }

    /// Tells the others that this replica lives, when it is time to, and at once what has changed of its gate; leaves a node
    /// that does not answer.
    func beat(at now: ContinuousClock.Instant) {
        endStrangers(at: now)
        let (isSilent, mustTell, members, left) = state.withLockedValue { state -> (Publisher?, Bool, Int, Int?) in
            let time = Timestamp.now.milliseconds
            let used = state.replica.state.budgetUsed(at: time)
            let left = options.budget.flatMap { budget in used.map { max(0, budget.count - $0) } }
            let members = state.replica.state.fleet.alive(at: time, within: Self.shownSilence)
            guard let publisher = state.publisher, !state.isClosed else { return (nil, false, members, left) }
            if publisher.connection.isBlocked { state.silence.held(at: now) }
            let waiting =
                state.replica.isUpToDate ? state.silence.waiting(at: now) ?? .zero : now - state.lastCame
            if waiting > Self.longestSilence { return (publisher, false, members, left) }
            guard state.isReady else { return (nil, false, members, left) }
            let new = (gate: state.gate?(), paused: state.replica.state.fleet.pause?.reason)
            let hasChanged = state.reported.map { $0 != new } ?? true
            guard hasChanged || state.silence.isDue(at: now) else { return (nil, false, members, left) }
            state.reported = new
            state.silence.sent(at: now)
            return (nil, true, members, left)
        }
        if let isSilent {
            let tell = state.withLockedValue { state in
                state.publisher = nil
                return state.onFleetChange
            }
            tell?(.silent)
            Task { await isSilent.connection.close() }
        }
        if mustTell { post(.alive(report())) }
        observer.knowsFleet(replicas: members, imagesLeft: left)
    }

    /// Workers of another user have been silent for long enough: this replica goes on.
    private func endStrangers(at now: ContinuousClock.Instant) {
        let (waiters, tell) = state.withLockedValue {
            state -> ([CheckedContinuation<Void, Never>], (@Sendable (FleetChange) -> Void)?) in
            guard let until = state.strangersUntil, now >= until else { return ([], nil) }
            state.strangersUntil = nil
            state.wasReady = state.isReady
            return state.isReady ? (state.ready.removeAll(), state.onFleetChange) : ([], nil)
        }
        tell?(.ready)
        for waiter in waiters { waiter.resume() }
    }

    private func report() -> LedgerReport {
        state.withLockedValue { state in
            var report = LedgerReport(
                version: options.greeting.version,
                since: startedAt,
                inFlight: state.replica.inFlight
            )
            report.gate = state.gate?()
            report.paused = state.replica.state.fleet.pause?.reason
            if let limit = options.rateLimit, let slots = state.slots {
                report.rate = .init(used: slots.used(now: .now), limit: limit.text)
            }
            if let budget = options.budget, let used = state.replica.state.budgetUsed(at: Timestamp.now.milliseconds) {
                report.budget = .init(used: used, limit: budget.text)
            }
            return report
        }
    }
}
