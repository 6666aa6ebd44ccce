import NIOConcurrencyHelpers
import SharedValues

/// Lets walks over the same dead letters follow each other: the broker gives each letter to one of them only, so that of
/// two at once each would miss what the other holds.
final class WalkTurn: Sendable {
    private struct State {
        var isTaken = false
        var waiters = Waiters<Bool>()
    }

    /// A turn, which ends with this.
    final class Turn: Sendable {
        private let turns: WalkTurn

        fileprivate init(_ turns: WalkTurn) { self.turns = turns }

        deinit { turns.end() }
    }

    private let state = NIOLockedValueBox(State())

    /// Waits until no other walk has its turn.
    func begin() async -> Turn {
        while true {
            let isMine = await withCheckedContinuation { continuation in
                let isFree = state.withLockedValue { state in
                    guard state.isTaken else {
                        state.isTaken = true
                        return true
                    }
                    let ticket = state.waiters.ticket()
                    state.waiters.add(continuation, as: ticket)
                    return false
                }
                if isFree { continuation.resume(returning: true) }
            }
            if isMine { return Turn(self) }
        }
    }

    private func end() {
        let waiting = state.withLockedValue { state in
            state.isTaken = false
            return state.waiters.removeAll()
        }
        for waiter in waiting { waiter.resume(returning: false) }
    }
}
