import EditJob

/// What is known of a job's submissions before this one, from its headers and from the journal: it must go with every
/// copy of the job, since the next worker may have another journal.
struct SubmissionHistory {
    /// Counted submissions.
    var attempts: Int
    /// Whether one of them may have been accepted.
    var mayBeDuplicate: Bool

    /// What the job's headers say.
    init(_ job: ReceivedJob) {
        attempts = job.attempts
        mayBeDuplicate = job.mayBeDuplicate
    }
}

extension ReceivedJob {
    /// The decision that the job has failed without a submission.
    ///
    /// What an earlier attempt may have cost, no later failure makes undone: `mayBeDuplicate` also where only the journal
    /// knows of it.
    func failed(_ failure: JobFailure, attempts: Int? = nil, mayBeDuplicate: Bool = false) -> JobDecision {
        let isMarked = mayBeDuplicate || self.mayBeDuplicate
        var failure = failure
        if isMarked { failure.charged = .maybe }
        return JobDecision(
            settlement: .failed(failure),
            attempts: attempts ?? self.attempts,
            mayBeDuplicate: isMarked
        )
    }

    /// The decision that the job goes back, with what is known of its earlier submissions.
    func givenBack(_ history: SubmissionHistory? = nil) -> JobDecision {
        let history = history ?? SubmissionHistory(self)
        return JobDecision(
            settlement: .giveBack,
            attempts: history.attempts,
            mayBeDuplicate: history.mayBeDuplicate
        )
    }

    /// The decision where the journal does not let the job be submitted.
    func decision(by answer: JournalAnswer) -> JobDecision {
        switch answer {
        case .accepted(let taskID, let attempts, let isMarked):
            return JobDecision(
                settlement: .submitted(taskID: taskID),
                attempts: attempts,
                mayBeDuplicate: isMarked || mayBeDuplicate,
                duplicateOfDelivery: true
            )
        case .failed(let failure, let attempts, let isMarked):
            return failed(failure, attempts: attempts, mayBeDuplicate: isMarked)
        case .doubtful(let attempts):
            return failed(FailureText.unfinished, attempts: attempts)
        case .conflict:
            return failed(FailureText.conflict)
        case .inFlight, .begun:
            var decision = givenBack()
            decision.awaitsVerdict = true
            return decision
        }
    }
}
