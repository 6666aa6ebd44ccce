import NIOConcurrencyHelpers

/// The queue in which attempts to log in wait for their turn, shared by all addresses.
///
/// Behind an ingress all people have one address: a limit by address would lock out the one who knows the password. Here guessing
/// is slow for everybody together, and the right password is answered within `longestWait` all the same.
final class LoginQueue: Sendable {
    /// Those who would wait longer have their turn together: how many they are, the server's bound on connections says.
    static let longestWait = Duration.seconds(10)
    private static let interval = Duration.seconds(1)

    private let next = NIOLockedValueBox(ContinuousClock.now)

    /// What `check` returns, once it is the attempt's turn.
    func check<Result: Sendable>(_ check: @Sendable () -> Result) async -> Result {
        let turn = turn(of: .now)
        // Also for a requester that has left: closing the connection must not make guessing faster.
        await Task { try? await Task.sleep(until: turn) }.value
        return check()
    }

    /// The turn of an attempt that comes now.
    func turn(of now: ContinuousClock.Instant) -> ContinuousClock.Instant {
        next.withLockedValue { next in
            let turn = max(now, next)
            next = min(turn + Self.interval, now + Self.longestWait)
            return turn
        }
    }
}
