import NIOConcurrencyHelpers
package import NIOCore

/// Runs tasks on an event loop's thread: a job that waits for its answer there goes on without a change of threads.
///
/// Source: SE-0417 "Task Executor Preference".
package final class EventLoopExecutor: TaskExecutor {
    private struct State {
        var jobs: [UnownedJob] = []
        /// An empty array that keeps its room.
        var spare: [UnownedJob] = []
        /// Whether the loop has been told, or is at it.
        var isScheduled = false
    }

    private let loop: any EventLoop
    private let state = NIOLockedValueBox(State())

    /// An executor over a loop, which must outlive every task that runs here.
    package init(_ loop: any EventLoop) {
        self.loop = loop
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let mustTell = state.withLockedValue { state in
            state.jobs.append(job)
            defer { state.isScheduled = true }
            return !state.isScheduled
        }
        // Once for many jobs: telling a loop costs a lock, an allocation and, where it sleeps, a system call.
        if mustTell { loop.execute { self.runJobs() } }
    }

    private func runJobs() {
        var jobs = state.withLockedValue { state in
            let jobs = state.jobs
            state.jobs = state.spare
            state.spare = []
            return jobs
        }
        let executor = unsafe asUnownedTaskExecutor()
        WakeUps.gathered {
            for job in jobs { unsafe job.runSynchronously(on: executor) }
        }
        jobs.removeAll(keepingCapacity: true)
        let isMore = state.withLockedValue { state in
            state.spare = jobs
            state.isScheduled = !state.jobs.isEmpty
            return state.isScheduled
        }
        // Not at once: timers and the loop's other tasks come in between.
        if isMore { loop.execute { self.runJobs() } }
    }
}
