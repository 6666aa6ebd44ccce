package import EditJob

/// What to do with a job, once and for all of its delivery.
package enum Settlement: Hashable, Sendable {
    /// The API has taken it: reply.
    case submitted(taskID: String)
    /// It has ended without: reply and dead letter, the latter to `Q.unknown` where money may have been spent.
    ///
    /// Apart, because few jobs end so, and every decision would be as large.
    indirect case failed(JobFailure)
    /// It waits for its next attempt: a copy in a retry queue.
    case retry(after: Duration)
    /// It was not submitted, for no reason of its own: a copy in the first retry queue, uncounted.
    case giveBack
}

/// A settlement with what its messages report.
package struct JobDecision: Hashable, Sendable {
    /// What to do.
    package var settlement: Settlement
    /// Counted submissions, the last included where it counts.
    package var attempts: Int
    /// Whether a submission before the last may have been accepted without our knowing; for a copy that is to be
    /// submitted again, also the last.
    package var mayBeDuplicate: Bool
    /// Whether the task id comes from the journal and nothing was submitted.
    package var duplicateOfDelivery: Bool
    /// Whether the job goes back because another copy is being submitted, whose verdict it is to take.
    package var awaitsVerdict = false

    /// A decision.
    package init(
        settlement: Settlement,
        attempts: Int,
        mayBeDuplicate: Bool = false,
        duplicateOfDelivery: Bool = false
    ) {
        self.settlement = settlement
        self.attempts = attempts
        self.mayBeDuplicate = mayBeDuplicate
        self.duplicateOfDelivery = duplicateOfDelivery
    }

    /// All values of `result`.
    package static let results = ["submitted", "failed", "unknown", "retried", "returned", "duplicate"]

    /// The decision's name in metrics and logs.
    package var result: String {
        switch settlement {
        case .submitted: duplicateOfDelivery ? "duplicate" : "submitted"
        case .failed(let failure): failure.charged == .maybe ? "unknown" : "failed"
        case .retry: "retried"
        case .giveBack: "returned"
        }
    }

    /// Whether this very delivery was accepted by the API, which must be told whatever happens to the delivery.
    package var isNewlyAccepted: Bool {
        guard case .submitted = settlement else { return false }
        return !duplicateOfDelivery
    }

    /// Whether the job was refused for certain.
    package var isRefusal: Bool {
        guard case .failed(let failure) = settlement else { return false }
        return failure.charged == .no
    }

    /// What the journal has to remember of the submission that led here.
    package var verdict: JournalVerdict {
        switch settlement {
        case .submitted(let taskID): .accepted(taskID: taskID)
        case .failed(let failure): .failed(failure)
        case .retry, .giveBack: mayBeDuplicate ? .retrying : .released
        }
    }
}
