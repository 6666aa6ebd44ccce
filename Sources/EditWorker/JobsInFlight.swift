import NIOConcurrencyHelpers
import SharedValues

/// Counts the jobs of one consumer that have no end yet.
final class JobsInFlight: Sendable {
    private struct State {
        var count = 0
        var waiters = Waiters<Void>()
    }

    private let state = NIOLockedValueBox(State())

    var count: Int { state.withLockedValue { $0.count } }

    /// Counts a job; balance with `landed()`.
    func took() {
        state.withLockedValue { $0.count += 1 }
    }

    /// A job has its end.
    func landed() {
        let waiting = state.withLockedValue { state in
            state.count -= 1
            // Nearly always there is no waiter.
            return state.waiters.count == 0 ? [] : state.waiters.removeAll()
        }
        for waiter in waiting { waiter.resume() }
    }

    /// Waits until at most `limit` are in flight.
    func wait(untilAtMost limit: Int) async {
        while count > limit {
            await withCheckedContinuation { continuation in
                let isOver = state.withLockedValue { state in
                    guard state.count > limit else { return true }
                    let ticket = state.waiters.ticket()
                    state.waiters.add(continuation, as: ticket)
                    return false
                }
                if isOver { continuation.resume() }
            }
        }
    }
}
