package import EditJob
package import Journal
package import SharedValues

/// How a delivery ends: what is published in its place, what the journal remembers, and what is counted.
package struct JobEnd: Hashable, Sendable {
    /// The ways to end.
    package enum Kind: Hashable, Sendable {
        /// The API accepted the job: reply.
        case submitted(taskID: String)
        /// The API accepted the job earlier, as the journal knows: the same reply again.
        case duplicate(taskID: String)
        /// It failed: a reply, and a dead letter in `Q.dlq`, or in `Q.unknown` if money may have been spent.
        ///
        /// Indirect, because few jobs end so, and every end would be as large.
        indirect case failed(JobFailure)
        /// It is tried again: a copy in the retry queue for that wait.
        case retried(after: Duration)
        /// It was not submitted, for no reason of its own: a copy in the first retry queue, uncounted.
        ///
        /// If it `awaitsVerdict`, another worker is submitting the same job, and the copy takes that one's end.
        /// If it was not judged, the journal has not said yet whether an earlier delivery may have been submitted.
        case returned(awaitsVerdict: Bool = false, wasJudged: Bool = true)
    }

    /// The ends as metrics and logs name them.
    package enum Label: String, CaseIterable, Sendable {
        case submitted, failed, unknown, retried, returned, duplicate
    }

    package var kind: Kind
    /// Counted submissions, the last included if it counts.
    package var attempts: Int
    /// Whether a submission before the last may have been accepted; for a copy that is to be submitted again, also the
    /// last.
    package var mayBeDuplicate: Bool
    /// When the API had accepted the job, for the two ends that say so.
    package var submittedAt: Timestamp?
    /// Whether it is told though the delivery is gone.
    package var isLate = false

    /// An end after `attempts` counted submissions.
    package init(_ kind: Kind, attempts: Int, mayBeDuplicate: Bool = false) {
        self.kind = kind
        self.attempts = attempts
        self.mayBeDuplicate = mayBeDuplicate
    }

    /// The end's name in metrics and logs.
    package var label: Label {
        switch kind {
        case .submitted: .submitted
        case .duplicate: .duplicate
        case .failed(let failure): failure.charged == .maybe ? .unknown : .failed
        case .retried: .retried
        case .returned: .returned
        }
    }

    /// What the journal has to remember of the submission that led here.
    package var verdict: JournalVerdict {
        switch kind {
        case .submitted(let taskID), .duplicate(let taskID): .accepted(taskID: taskID, at: submittedAt)
        case .failed(let failure): .failed(failure)
        case .retried, .returned: mayBeDuplicate ? .retrying(attempts: attempts) : .released
        }
    }
}
