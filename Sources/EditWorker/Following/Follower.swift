package import AMQP
package import EditJob
import NIOConcurrencyHelpers
package import SeedreamAPI
package import SharedValues

/// Looks at tasks, each time once, and takes each to its end.
package protocol TaskLooker: Sendable {
    /// What was seen of a look at a task.
    func look(atTask taskID: String, token: String) async -> SubmissionSighting
}

extension SeedreamClient: TaskLooker {}

/// Follows accepted tasks to their images.
///
/// A task waits in the broker; looking is free and can be repeated, so that a worker that is killed meanwhile loses nothing.
package final class Follower: Sendable {
    private let api: any TaskLooker
    private let tokens: TokenSource
    private let policy: FollowPolicy
    private let decoder: JobDecoder
    private let settler: Settler
    private let admission: Admission
    private let observer: JobObserver
    private let onEnd: @Sendable (FollowedTask, JobFailure?) -> Void
    private let schedule: NIOLockedValueBox<StartSchedule>

    /// A follower that looks no more often than `rateLimit` allows; `onEnd` hears of each end, nil if the images are there.
    package init(
        _ api: any TaskLooker,
        tokens: TokenSource,
        policy: FollowPolicy,
        rateLimit: RateLimit,
        decoder: JobDecoder,
        settler: Settler,
        admission: Admission,
        observer: JobObserver,
        onEnd: @escaping @Sendable (FollowedTask, JobFailure?) -> Void = { _, _ in }
    ) {
        self.onEnd = onEnd
        self.api = api
        self.tokens = tokens
        self.policy = policy
        self.decoder = decoder
        self.settler = settler
        self.admission = admission
        self.observer = observer
        schedule = NIOLockedValueBox(StartSchedule(rateLimit))
    }

    /// Whether any task may be followed.
    package var isNeeded: Bool { policy.follows }

    /// Looks at the task of a delivery and tells the broker.
    package func take(_ delivery: Delivery) async {
        let job = decoder.receive(delivery)
        do {
            guard let task = FollowedTask(job) else {
                // Not one of ours: it stands where a person looks.
                delivery.deadLetter()
                return
            }
            try await settle(task)
            guard delivery.isLive else { return }
            _ = delivery.acknowledge()
        } catch is CancellationError {
            observer.interrupted(job)
        } catch {
            observer.unsettled(job, error, wait: .seconds(1))
            try? await Task.sleep(for: .seconds(1))
            delivery.putBack()
        }
    }

    private func settle(_ task: FollowedTask) async throws {
        if let notBefore = task.misses.notBefore, notBefore > .now {
            return try await settler.wait(task, policy.first, task.misses)
        }
        try await waitForTurn()
        let token = tokens.token
        let sighting = await api.look(atTask: task.taskID, token: token)
        let status = quotable(TaskStatusTable.status(of: sighting), of: task, token)
        if case .noAnswer(_, true) = status {
            tokens.distrust()
            admission.report(.auth)
        }
        let age = task.age(at: .now)
        switch policy.next(after: status, of: task, age: age) {
        case .wait(let delay, let misses): try await settler.wait(task, delay, misses)
        case .completed(let urls):
            try await settler.completed(task, urls)
            observer.followed(task, nil, after: age)
            onEnd(task, nil)
        case .failed(let failure):
            try await settler.failed(task, failure)
            observer.followed(task, failure, after: age)
            onEnd(task, failure)
        }
    }

    /// The status without words of the API that repeat the job: no prompt may get into a header or a log.
    private func quotable(_ status: TaskStatus, of task: FollowedTask, _ token: String) -> TaskStatus {
        guard case .failed(let code, let message) = status else { return status }
        let job = try? decoder.decode(task.job)
        func quotable(_ words: String?) -> String? {
            words.flatMap { words in job.flatMap { FailureText.quotable(words, of: $0, token: token) } }
        }
        return .failed(code: quotable(code), message: quotable(message))
    }

    private func waitForTurn() async throws {
        let moment = schedule.withLockedValue { $0.reserve(now: .now) }
        while moment > .now {
            // A worker that drains leaves the task to another one.
            guard admission.intake() != .ended, !Task.isCancelled else { throw CancellationError() }
            await admission.wait(until: moment)
        }
    }
}
