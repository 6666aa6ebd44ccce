import NIOConcurrencyHelpers
import NIOPosix

/// The wake-ups that a thread puts off until it has done what is at hand.
///
/// A thread that is woken takes the processor from the one that wakes it, finds one thing to do, and sleeps again: two
/// changes of threads for each message of a batch, a tenth of a job's CPU time where jobs are ready together.
enum WakeUps {
    private final class PutOff: Sendable {
        let wakeUps = NIOLockedValueBox<[@Sendable () -> Void]>([])
    }

    private static let putOff = ThreadSpecificVariable<PutOff>()

    /// Runs a piece of work; who is woken in it is woken at its end.
    static func gathered(_ work: () -> Void) {
        guard putOff.currentValue == nil else { return work() }
        let mine = PutOff()
        putOff.currentValue = mine
        defer {
            putOff.currentValue = nil
            for wakeUp in mine.wakeUps.withLockedValue({ $0 }) { wakeUp() }
        }
        work()
    }

    /// Wakes another thread: now, or at the end of the work that this one is at.
    static func wake(_ wakeUp: @escaping @Sendable () -> Void) {
        guard let current = putOff.currentValue else { return wakeUp() }
        current.wakeUps.withLockedValue { $0.append(wakeUp) }
    }
}
