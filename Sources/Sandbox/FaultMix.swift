/// How a stand-in misbehaves, and how often.
package struct FaultMix: Hashable, Sendable {
    /// A way to misbehave.
    package enum Kind: Hashable, Sendable, CustomStringConvertible {
        /// Answers with an HTTP status of 300 to 599.
        case status(Int)
        /// Reads the request and closes the connection.
        case reset
        /// Reads the request and never answers.
        case hang
        /// Answers 200 with HTML, having taken the job.
        case garbage
        /// Answers 200 without a task id, having taken the job.
        case noTaskID
        /// Answers 200 with the API family's envelope of a 401.
        case envelope401
        /// Takes the job, whose task ends without images.
        case taskFailed
        /// Takes the job, and forgets its task.
        case taskLost
        /// Takes the job, whose task never ends.
        case taskStuck

        /// Reads a kind's name, nil if it is none.
        package init?(_ text: String) {
            switch text {
            case "reset": self = .reset
            case "hang": self = .hang
            case "garbage": self = .garbage
            case "no-task-id": self = .noTaskID
            case "envelope-401": self = .envelope401
            case "task-failed": self = .taskFailed
            case "task-lost": self = .taskLost
            case "task-stuck": self = .taskStuck
            default:
                guard let status = Int(text), (300...599).contains(status) else { return nil }
                self = .status(status)
            }
        }

        package var description: String {
            switch self {
            case .status(let status): "\(status)"
            case .reset: "reset"
            case .hang: "hang"
            case .garbage: "garbage"
            case .noTaskID: "no-task-id"
            case .envelope401: "envelope-401"
            case .taskFailed: "task-failed"
            case .taskLost: "task-lost"
            case .taskStuck: "task-stuck"
            }
        }
    }

    /// A kind and how many of a hundred requests meet it.
    package struct Share: Hashable, Sendable {
        package let kind: Kind
        /// 0 to 100.
        package let percent: Double

        package init(kind: Kind, percent: Double) {
            self.kind = kind
            self.percent = percent
        }

        /// Reads `429=5`; nil if the text is nothing of the kind.
        package init?(_ text: String) {
            let parts = text.split(separator: "=", omittingEmptySubsequences: false)
            guard parts.count == 2, let kind = Kind(String(parts[0])), let percent = Double(parts[1]),
                (0...100).contains(percent)
            else { return nil }
            self.init(kind: kind, percent: percent)
        }
    }

    private let shares: [Share]

    /// A mix; nil if the shares add up to more than 100 percent.
    package init?(_ shares: [Share]) {
        guard shares.reduce(0, { $0 + $1.percent }) <= 100 else { return nil }
        self.shares = shares
    }

    /// The fault that a request meets, nil for none; `roll` is a random number from 0 to under 100.
    package func fault(roll: Double) -> Kind? {
        var end = 0.0
        for share in shares {
            end += share.percent
            if roll < end { return share.kind }
        }
        return nil
    }
}
