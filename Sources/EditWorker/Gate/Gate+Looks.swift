import NIOConcurrencyHelpers
import SeedreamAPI

// While the gate is closed because the API refuses the token, looks at tasks use that token no more often than jobs do:
// once per pause, by the probe.

extension Gate {
    /// Whether a look may go out.
    enum LookLeave {
        case go
        /// Its outcome decides for all: hand it to `leaveLook`.
        case probe
        /// Not now: the token was refused, and is still the same.
        case refused
    }

    /// Asks for a look; `hasNewToken` if the token is another than the one that was refused.
    func mayLook(hasNewToken: Bool) -> LookLeave {
        let leave: LookLeave = state.withLockedValue { state in
            guard state.machine.closure?.reason == .auth, !hasNewToken else { return .go }
            return state.machine.beginLook(now: .now) ? .probe : .refused
        }
        // No job is taken for the probe meanwhile.
        if leave == .probe { wakeAll() }
        return leave
    }

    /// Notes what a look has shown of the token; nil if nothing.
    func leaveLook(_ leave: LookLeave, isTokenTaken: Bool?) {
        let isProbe = leave == .probe
        switch isTokenTaken {
        case false?: _ = self.leave(.serviceFault(.init(reason: .auth, status: 401)), job: "", isProbe: isProbe)
        case true?:
            let changed = state.withLockedValue { state in
                guard state.machine.open(from: .auth) else { return false }
                show(state.machine.reason)
                return true
            }
            guard changed else { return }
            report(nil)
            wakeAll()
        case nil:
            // It may have been used all the same.
            guard isProbe else { return }
            state.withLockedValue { $0.machine.postponeProbe(now: .now) }
            wakeAll()
        }
    }
}
