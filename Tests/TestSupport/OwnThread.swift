import Foundation
import Glibc
import NIOConcurrencyHelpers
package import Testing

/// Runs tests that compute or block for seconds on a thread of their own, one after the other.
///
/// The tests share Swift's pool, which has a thread for each core: two simulations there stop everything else, and
/// whatever waits for an event with a deadline, or relies on a connection that is kept for some seconds, fails. The thread
/// has the lowest priority: it computes while the others wait.
package struct OwnThread: SuiteTrait, TestTrait, TestScoping {
    private final class Executor: TaskExecutor {
        static let shared = Executor()
        private let jobs = NIOLockedValueBox<[UnownedJob]>([])
        private let count = DispatchSemaphore(value: 0)

        init() {
            let thread = Thread { [self] in
                // Of this thread alone, on Linux: setpriority(2), "Bugs".
                _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 19)
                while true {
                    count.wait()
                    let job = jobs.withLockedValue { $0.removeFirst() }
                    unsafe job.runSynchronously(on: asUnownedTaskExecutor())
                }
            }
            thread.stackSize = 8 << 20
            thread.start()
        }

        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            jobs.withLockedValue { $0.append(job) }
            count.signal()
        }
    }

    package var isRecursive: Bool { true }

    package func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        try await withTaskExecutorPreference(Executor.shared) { try await function() }
    }
}

extension Trait where Self == OwnThread {
    /// For tests that compute or block for seconds.
    package static var ownThread: OwnThread { OwnThread() }
}
