package import Ledger
import Logging
import NIOConcurrencyHelpers
import SeedreamAPI
import Telemetry

// One replica's gate among the others: the shared rate limit, the probe of all, a pause, a closure for the account.

extension Gate {
    /// Waits for a start of the fleet; nil if the gate closed or the drain began meanwhile.
    func fleetStart(isProbe: Bool) async -> ContinuousClock.Instant? {
        guard let fleet, fleet.limitsStarts else { return .now + .seconds(3600) }
        state.withLockedValue { $0.waitingForFleet += 1 }
        defer { state.withLockedValue { $0.waitingForFleet -= 1 } }
        while !Task.isCancelled {
            let (isOver, waiting, version) = state.withLockedValue { state in
                (
                    state.isDraining || state.machine.isPaused || !isProbe && state.machine.closure != nil,
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

    /// Asks the other replicas before a probe, if they know of the closure; false if another one tries.
    package func claimProbe() async -> Bool {
        guard await mayProbe() else { return false }
        state.withLockedValue { $0.hasClaim = true }
        return true
    }

    func mayProbe() async -> Bool {
        guard let fleet, state.withLockedValue({ $0.machine.closure?.isShared == true && !$0.hasClaim }) else {
            state.withLockedValue { $0.hasClaim = false }
            return true
        }
        if await fleet.claimProbe() { return true }
        state.withLockedValue { $0.machine.postponeProbe(now: .now) }
        wakeAll()
        return false
    }

    /// Takes over what other replicas, or people, tell the fleet, until the task is cancelled.
    ///
    /// A change comes a moment after the ledger has read it: the last check before a request is the ledger's own.
    func followFleet(onSilence leaveNode: () async -> Void) async {
        guard let fleet else { return }
        for await change in fleet.changes {
            follow(change)
            guard change == .silent else { continue }
            logger.log(.warning, "the broker's node does not answer; another one is taken")
            await leaveNode()
        }
    }

    /// Waits until what stood in the fleet at the start has been taken over, if there is one, or the drain begins.
    func waitUntilFleetIsHeard() async {
        while !Task.isCancelled, !state.withLockedValue({ $0.hasHeardFleet || $0.isDraining }) {
            await wait(until: nil) { $0.hasHeardFleet }
        }
    }

    /// Takes over what another replica, or a person, has told the fleet.
    package func follow(_ change: FleetChange) {
        let (changed, reason) = state.withLockedValue { state -> (Bool, GateReason?) in
            let before = state.machine.reason
            switch change {
            case .paused: state.machine.isPaused = true
            case .resumed: state.machine.isPaused = false
            case .closed(let text, let delay, let isHeld):
                guard let reason = GateReason(rawValue: text), reason.isOfAccount else { break }
                state.hasClaim = false
                _ = state.machine.follow(reason, for: delay, isHeld: isHeld, now: .now)
            case .opened:
                state.hasClaim = false
                _ = state.machine.followOpening()
            case .slots, .silent: break
            // That the stream is read again needs no job to find out.
            case .ready:
                state.hasHeardFleet = true
                _ = state.machine.open(from: .ledger)
            }
            if state.machine.reason != nil { state.schedule?.forgetReservations() }
            let changed = state.machine.reason != before
            if changed { show(state.machine.reason) }
            return (changed, state.machine.reason)
        }
        if changed {
            if reason == .paused {
                logger.log(.warning, "the fleet is paused", [.remedy: GateReason.paused.remedy])
            } else {
                report(closure)
            }
        }
        wakeAll()
    }

    /// Tells the other replicas what this one has found out about the account.
    func tell(_ fleet: any Fleet, _ before: GateState.Closure?, _ now: GateState.Closure?, isProbe: Bool) {
        if let now, now.reason.isOfAccount, before == nil || isProbe {
            state.withLockedValue { $0.machine.markShared() }
            fleet.tellClosed(now.reason.rawValue, for: now.pause, isHeld: now.isHeld)
        } else if before?.isShared == true, now?.reason.isOfAccount != true {
            // Also if this replica now has a fault of its own: the others need not wait for that.
            fleet.tellOpened()
        }
    }
}
