import NIOConcurrencyHelpers

/// Counts the jobs of one consumer that have no end yet.
final class JobsInFlight: Sendable {
    private struct State {
        var count = 0
        var waiters: [(atMost: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = NIOLockedValueBox(State())

    /// Jobs without an end.
    var count: Int { state.withLockedValue { $0.count } }

    /// Counts a job; every call wants a `landed`.
    func took() {
        state.withLockedValue { $0.count += 1 }
    }

    /// A job has its end.
    func landed() {
        let ready = state.withLockedValue { state in
            state.count -= 1
            let count = state.count
            let ready = state.waiters.filter { $0.atMost >= count }
            if !ready.isEmpty { state.waiters.removeAll { $0.atMost >= count } }
            return ready
        }
        for waiter in ready { waiter.continuation.resume() }
    }

    /// Waits until at most so many are in flight.
    func wait(untilAtMost limit: Int) async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLockedValue { state in
                guard state.count > limit else { return true }
                state.waiters.append((limit, continuation))
                return false
            }
            if isOver { continuation.resume() }
        }
    }
}
