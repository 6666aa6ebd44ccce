/// Tasks that wait for the same thing, each until it is woken or no longer wants to wait.
///
/// A value, to be kept under the lock of whatever is waited for; the continuations are resumed outside it.
package struct Waiters<Value: Sendable>: Sendable {
    private var continuations: [Int: CheckedContinuation<Value, Never>] = [:]
    private var last = 0

    package init() {}

    package var count: Int { continuations.count }

    /// A number under which to wait, before there is a continuation.
    package mutating func ticket() -> Int {
        last += 1
        return last
    }

    /// Lets a task wait under its number.
    package mutating func add(_ continuation: CheckedContinuation<Value, Never>, as ticket: Int) {
        continuations[ticket] = continuation
    }

    /// Takes one out, to be resumed; nil if it does not wait any more.
    package mutating func remove(_ ticket: Int) -> CheckedContinuation<Value, Never>? {
        continuations.removeValue(forKey: ticket)
    }

    /// Takes all out, to be resumed.
    package mutating func removeAll() -> [CheckedContinuation<Value, Never>] {
        defer { continuations = [:] }
        return Array(continuations.values)
    }
}
