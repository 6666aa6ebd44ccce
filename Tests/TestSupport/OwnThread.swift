import Foundation
package import Testing

/// Runs tests that compute or block for seconds on a thread of their own, one after the other.
///
/// The tests share Swift's pool, which has a thread for each core: two simulations there stop everything else, and
/// whatever waits for an event with a deadline, or relies on a connection that is kept for some seconds, fails.
package struct OwnThread: SuiteTrait, TestTrait, TestScoping {
    private final class Executor: TaskExecutor {
        static let shared = Executor()
        private let queue = DispatchQueue(label: "simulations", qos: .utility)

        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            queue.async { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) }
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
