/// How a delivery ends: what is published in its place, what the journal remembers, and what is counted.
package struct JobEnd: Hashable, Sendable {
    /// The ends as metrics and logs name them.
    package enum Label: String, CaseIterable, Sendable {
        case submitted, failed, unknown, retried, returned, duplicate
    }

    package var verdict: Verdict
    /// Counted submissions, the last included if it counts.
    package var attempts: Int
    /// Whether a submission before the last may have been accepted; for a copy that is to be submitted again, also the
    /// last.
    package var mayBeDuplicate: Bool
    /// Whether the journal knew the end, and nothing was submitted.
    package var isRepeated = false
    /// Whether it is told though the delivery is gone.
    package var isLate = false

    /// An end after `attempts` counted submissions.
    package init(_ verdict: Verdict, attempts: Int, mayBeDuplicate: Bool = false) {
        self.verdict = verdict
        self.attempts = attempts
        self.mayBeDuplicate = mayBeDuplicate
    }

    /// Nothing was submitted, and no earlier submission is known that may have been accepted.
    package static let released = JobEnd(.givenBack(.notSubmitted), attempts: 0)

    /// One of `attempts` counted submissions may have been accepted, and the job is submitted again by itself.
    package static func retrying(attempts: Int) -> JobEnd {
        JobEnd(.retry(after: .zero), attempts: attempts, mayBeDuplicate: true)
    }

    /// The end's name in metrics and logs.
    package var label: Label {
        switch verdict {
        case .accepted: isRepeated ? .duplicate : .submitted
        case .refused: .failed
        case .unknown: .unknown
        case .retry: .retried
        case .givenBack: .returned
        }
    }
}
