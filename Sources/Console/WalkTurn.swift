import NIOConcurrencyHelpers

/// Lets one walk over dead letters follow the other: the broker gives each letter to one of them only, so that of two at
/// once each would miss what the other holds.
final class WalkTurn: Sendable {
    private struct State {
        var isTaken = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = NIOLockedValueBox(State())

    /// A turn, which ends with this.
    final class Turn: Sendable {
        private let row: WalkTurn

        fileprivate init(_ row: WalkTurn) { self.row = row }

        deinit { row.next() }
    }

    /// Waits until all that came before have ended.
    func begin() async -> Turn {
        await withCheckedContinuation { continuation in
            let isFree = state.withLockedValue { state in
                guard state.isTaken else {
                    state.isTaken = true
                    return true
                }
                state.waiters.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
        return Turn(self)
    }

    private func next() {
        let next = state.withLockedValue { state -> CheckedContinuation<Void, Never>? in
            guard !state.waiters.isEmpty else {
                state.isTaken = false
                return nil
            }
            return state.waiters.removeFirst()
        }
        next?.resume()
    }
}
