package import EditJob
import NIOConcurrencyHelpers
package import RabbitMQ
package import SeedreamAPI
package import SharedValues

/// Looks at tasks, each time once, and takes each to its end.
package protocol TaskLooker: Sendable {
    /// What was seen of a look at a task.
    func look(atTask taskID: String, token: String) async -> SubmissionResult
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
    private let gate: Gate
    private let observer: JobObserver
    private let onEnd: @Sendable (FollowedTask, JobFailure?) -> Void
    private let schedule: NIOLockedValueBox<StartSchedule>
    private let trouble = NIOLockedValueBox(LookTrouble())

    /// A follower that looks no more often than `rateLimit` allows; `onEnd` hears of each end, nil if the images are there.
    package init(
        _ api: any TaskLooker,
        tokens: TokenSource,
        policy: FollowPolicy,
        rateLimit: RateLimit,
        decoder: JobDecoder,
        settler: Settler,
        gate: Gate,
        observer: JobObserver,
        onEnd: @escaping @Sendable (FollowedTask, JobFailure?) -> Void = { _, _ in }
    ) {
        self.onEnd = onEnd
        self.api = api
        self.tokens = tokens
        self.policy = policy
        self.decoder = decoder
        self.settler = settler
        self.gate = gate
        self.observer = observer
        schedule = NIOLockedValueBox(StartSchedule(rateLimit))
    }

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
        } catch is StaleDelivery {
            observer.lost(job)
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
        let leave = gate.mayLook(hasNewToken: tokens.isNew(token))
        guard leave != .refused else {
            return try await settler.wait(task, policy.wait(after: task.followed(at: .now)), task.misses)
        }
        let start = ContinuousClock.now
        let result = await api.look(atTask: task.taskID, token: token)
        observer.requested(.look, status: result.status, after: start.duration(to: .now))
        let status = quotable(TaskStatusTable.status(of: result), of: task, token)
        if case .noAnswer(_, true) = status { tokens.refuse(token) }
        gate.leaveLook(leave, isTokenTaken: status.isTokenTaken)
        try await settle(task, judged(status, of: task), result, token)
    }

    private func settle(
        _ task: FollowedTask,
        _ status: TaskStatus,
        _ result: SubmissionResult,
        _ token: String
    ) async throws {
        let seen = TaskStatusTable.description(of: result)
        note(status, seen, result, of: task, token)
        let now = Timestamp.now
        switch policy.next(after: status, of: task, at: now, seen: seen) {
        case .wait(let delay, let misses): try await settler.wait(task, delay, misses)
        case .completed(let urls):
            try await settler.completed(task, urls)
            observer.followed(task, nil, after: task.age(at: now))
            onEnd(task, nil)
        case .failed(let failure):
            try await settler.failed(task, failure)
            observer.followed(task, failure, after: task.age(at: now))
            onEnd(task, failure)
        }
    }

    /// The status; that a task is not known says nothing of it where no task is.
    private func judged(_ status: TaskStatus, of task: FollowedTask) -> TaskStatus {
        guard case .notFound = status else {
            if status.isAnswer { trouble.withLockedValue { $0.found() } }
            return status
        }
        let (isOfEndpoint, isNew) = trouble.withLockedValue { $0.missed(task.taskID) }
        if isNew { observer.knowsNoTask() }
        return isOfEndpoint ? .noAnswer(retryAfter: nil, isTokenRefused: false) : status
    }

    /// Logs what is not understood, once for each change: thousands of tasks may wait for the same API.
    private func note(
        _ status: TaskStatus,
        _ seen: String,
        _ result: SubmissionResult,
        of task: FollowedTask,
        _ token: String
    ) {
        let isUnderstood: Bool =
            switch status {
            case .noAnswer, .unreadable: false
            case .running, .completed, .failed, .notFound: true
            }
        guard trouble.withLockedValue({ $0.change(isUnderstood ? nil : seen) }) else { return }
        guard !isUnderstood else { return observer.looksUnderstood() }
        var evidence: String?
        if case .answered(let answer) = result, let line = answer.line, let job = try? decoder.decode(task.job) {
            evidence = FailureText.evidence(in: line, hiding: FailureText.secrets(of: job, token))
        }
        observer.lookNotUnderstood(task, seen, evidence)
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
            guard gate.intake() != .ended, !Task.isCancelled else { throw CancellationError() }
            await gate.wait(until: moment)
        }
    }
}

/// What several looks together say of the API.
private struct LookTrouble {
    /// This many different unknown tasks in a row are no coincidence.
    private static let mostMissing = 3

    private var missing: Set<String> = []
    private var seen: String?

    /// A task is known.
    mutating func found() {
        missing = []
    }

    /// A task is not known: whether that is the endpoint's fault, since none is, and whether it is news.
    mutating func missed(_ taskID: String) -> (isOfEndpoint: Bool, isNew: Bool) {
        guard missing.count < Self.mostMissing else { return (true, false) }
        missing.insert(taskID)
        let isOfEndpoint = missing.count >= Self.mostMissing
        return (isOfEndpoint, isOfEndpoint)
    }

    /// Notes what the last look saw that is not understood, nil if it is; whether that is another thing than before.
    mutating func change(_ seen: String?) -> Bool {
        defer { self.seen = seen }
        return self.seen != seen
    }
}

extension TaskStatus {
    /// What the answer says of the token; nil if nothing.
    fileprivate var isTokenTaken: Bool? {
        if case .noAnswer(_, true) = self { return false }
        return isAnswer ? true : nil
    }
}
