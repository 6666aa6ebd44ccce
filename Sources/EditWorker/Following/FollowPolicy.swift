import AMQP
package import EditJob
package import SeedreamAPI
package import SharedValues

/// Which tasks are followed to their images, and what comes after each look: a pure function.
package struct FollowPolicy: Sendable {
    /// What comes after a look.
    package enum Next: Hashable, Sendable {
        /// The images are there.
        case completed([String])
        /// There will be none, or nobody knows.
        indirect case failed(JobFailure)
        /// Look again, from another wait.
        case wait(Duration, FollowedTask.Misses)
    }

    /// As old as that, a task waits in the second queue, and then in the last.
    private static let young = Duration.seconds(30)
    private static let grown = Duration.seconds(120)
    private static let mostMissing = 5
    private static let mostUnreadable = 3

    private let choice: FollowChoice
    /// By rising length; at least one.
    private let delays: [Duration]
    private let deadline: Duration

    package init(choice: FollowChoice, delays: [Duration], deadline: Duration) {
        self.choice = choice
        self.delays = delays.sorted()
        self.deadline = deadline
    }

    /// Whether any task may be followed.
    package var follows: Bool { choice != .none }

    /// Whether the task of a job is to be followed.
    package func follows(_ job: ReceivedJob) -> Bool {
        switch choice {
        case .all: true
        case .none: false
        case .asked: job.delivery.properties.headers?[JobHeader.follow] == .boolean(true)
        }
    }

    /// The wait before the first look.
    package var first: Duration { delays[0] }

    /// What comes after a look at a task of that age.
    package func next(after status: TaskStatus, of task: FollowedTask, age: Duration) -> Next {
        var misses = task.misses
        var least: Duration?
        switch status {
        case .completed(let urls): return .completed(urls)
        case .failed(let code, let message): return .failed(Self.failure(code, message))
        case .notFound:
            misses.missing += 1
            misses.unreadable = 0
            guard misses.missing < Self.mostMissing else { return .failed(Self.lost(.taskNotFound)) }
        case .unreadable:
            misses.unreadable += 1
            misses.missing = 0
            guard misses.unreadable < Self.mostUnreadable else { return .failed(Self.lost(.resultUnreadable)) }
        case .running: misses = FollowedTask.Misses()
        case .noAnswer(let wait, _): least = wait
        }
        guard age < deadline else { return .failed(Self.lost(.followTimeout)) }
        let usual = age < Self.young ? 0 : age < Self.grown ? 1 : delays.count - 1
        let wait = delays[min(usual, delays.count - 1)]
        guard let least, least > wait else { return .wait(wait, misses) }
        // The queues' waits are fixed: the task goes round until the API's own has passed.
        // Not beyond the deadline, after which there is one more look.
        let left = min(least, max(.zero, deadline - age))
        misses.notBefore = Timestamp(milliseconds: Timestamp.now.milliseconds + left.wholeMilliseconds)
        return .wait(delays.first { $0 >= least } ?? delays[delays.count - 1], misses)
    }

    private static func failure(_ code: String?, _ message: String?) -> JobFailure {
        let words = [code.map { "(\($0))" }, message].compactMap { $0 }.joined(separator: " ")
        let text = "The API accepted the job and made no images\(words.isEmpty ? "" : ": \(words.prefix(300))")."
        return JobFailure(.generationFailed, text, charged: .maybe)
    }

    private static func lost(_ code: JobFailure.Code) -> JobFailure {
        let text =
            switch code {
            case .taskNotFound: "The API accepted the job and does not know its task any more."
            case .resultUnreadable: "The API says that the images are ready, and where they are cannot be read."
            default: "The images were not ready before follow.deadline."
            }
        return JobFailure(code, "\(text) Look for the task in the account.", charged: .maybe)
    }
}
