import DequeModule
import NIOConcurrencyHelpers

/// What a consumer was sent and was not taken yet: for one writer and one reader.
///
/// An `AsyncStream` of deliveries took 6 % of a job's instructions: it suspends for each element, also for those that
/// are there.
final class DeliveryQueue: Sendable {
    private struct State {
        var deliveries: Deque<Delivery> = []
        var isFinished = false
        var reader: CheckedContinuation<Delivery?, Never>?
    }

    private let state = NIOLockedValueBox(State())

    func put(_ delivery: Delivery) {
        let reader = state.withLockedValue { state -> CheckedContinuation<Delivery?, Never>? in
            if let reader = state.reader {
                state.reader = nil
                return reader
            }
            state.deliveries.append(delivery)
            return nil
        }
        reader?.resume(returning: delivery)
    }

    /// No more will come; what is there can still be taken.
    func finish() {
        let reader = state.withLockedValue { state in
            state.isFinished = true
            defer { state.reader = nil }
            return state.reader
        }
        reader?.resume(returning: nil)
    }

    /// The next delivery; nil after the last one, and if the task is cancelled and none is there.
    func next(isolation: isolated (any Actor)? = #isolation) async -> Delivery? {
        if let delivery = state.withLockedValue({ $0.deliveries.popFirst() }) { return delivery }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (delivery, isOver) = state.withLockedValue { state -> (Delivery?, Bool) in
                    if let delivery = state.deliveries.popFirst() { return (delivery, true) }
                    // A cancellation that came before has found no reader to wake.
                    guard !state.isFinished, !Task.isCancelled else { return (nil, true) }
                    state.reader = continuation
                    return (nil, false)
                }
                if isOver { continuation.resume(returning: delivery) }
            }
        } onCancel: {
            let reader = state.withLockedValue { state in
                defer { state.reader = nil }
                return state.reader
            }
            reader?.resume(returning: nil)
        }
    }
}
