package import EditJob
import RabbitMQ
package import SeedreamAPI
package import SharedValues

/// Which tasks are followed to their images, and what comes after each look: a pure function.
package struct FollowPolicy: Sendable {
    /// What comes after a look.
    package enum Next: Hashable, Sendable {
        /// The images are there.
        case completed([String])
        /// There will be none, or it is unknown.
        indirect case failed(JobFailure)
        /// Look again, from another wait.
        case wait(Duration, FollowedTask.Misses)
    }

    /// As old as that, a task waits in the second queue, and then in the last.
    private static let young = Duration.seconds(30)
    private static let grown = Duration.seconds(120)
    private static let mostMissing = 5
    private static let leastMissing = Duration.seconds(180)
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

    /// Whether the task of a job is to be followed.
    package func follows(_ job: ReceivedJob) -> Bool {
        switch choice {
        case .all: true
        case .none: false
        case .asked: job.asksForImages == true
        }
    }

    /// The wait before the first look.
    package var first: Duration { delays[0] }

    /// The wait between two looks at a task that has been followed for `age`.
    package func wait(after age: Duration) -> Duration {
        let usual = age < Self.young ? 0 : age < Self.grown ? 1 : delays.count - 1
        return delays[min(usual, delays.count - 1)]
    }

    /// What comes after a look that saw `seen`.
    package func next(after status: TaskStatus, of task: FollowedTask, at now: Timestamp, seen: String) -> Next {
        let age = task.followed(at: now)
        var misses = task.misses
        misses.notBefore = nil
        misses.last = seen
        var least: Duration?
        switch status {
        case .completed(let urls): return .completed(urls)
        case .failed(let code, let message): return .failed(Self.failure(code, message))
        case .notFound:
            let since = misses.missing > 0 ? misses.missingSince ?? now : now
            misses.missing += 1
            misses.missingSince = since
            misses.unreadable = 0
            if misses.missing >= Self.mostMissing, FollowedTask.duration(from: since, to: now) >= Self.leastMissing {
                return .failed(Self.lost(.taskNotFound))
            }
        case .unreadable:
            misses.unreadable += 1
            (misses.missing, misses.missingSince) = (0, nil)
            guard misses.unreadable < Self.mostUnreadable else { return .failed(Self.lost(.resultUnreadable)) }
        case .running: (misses.missing, misses.missingSince, misses.unreadable) = (0, nil, 0)
        case .noAnswer(let wait, _): least = wait
        }
        guard age < deadline else { return .failed(Self.lost(.followTimeout, seen: seen)) }
        let wait = wait(after: age)
        guard let least, least > wait else { return .wait(wait, misses) }
        // The queues' waits are fixed: the task goes round until the API's own has passed, beyond the deadline too.
        let milliseconds = now.milliseconds.addingReportingOverflow(least.wholeMilliseconds)
        misses.notBefore = milliseconds.overflow ? nil : Timestamp(milliseconds: milliseconds.partialValue)
        return .wait(delays.first { $0 >= least } ?? delays[delays.count - 1], misses)
    }

    private static func failure(_ code: String?, _ message: String?) -> JobFailure {
        let words = [code.map { "(\($0))" }, message].compactMap { $0 }.joined(separator: " ")
        let text = "The API accepted the job and made no images\(words.isEmpty ? "" : ": \(words.prefix(300))")."
        return JobFailure(.generationFailed, text, charged: .maybe)
    }

    private static func lost(_ code: JobFailure.Code, seen: String = "") -> JobFailure {
        let text =
            switch code {
            case .taskNotFound: "The API accepted the job and does not know its task any more."
            case .resultUnreadable: "The API says that the images are ready, and where they are cannot be read."
            default: "The images were not known to be ready before follow.deadline; the last look saw \(seen)."
            }
        return JobFailure(code, "\(text) Look for the task in the account.", charged: .maybe)
    }
}
