import EditJob
import Journal

extension ReceivedJob {
    /// The end of a job that failed without a submission.
    ///
    /// Later failures do not undo what an earlier attempt may have cost.
    func failed(_ failure: JobFailure, after history: SubmissionHistory? = nil) -> JobEnd {
        let history = history ?? SubmissionHistory(self)
        var failure = failure
        if history.mayBeDuplicate { failure.charged = .maybe }
        return JobEnd(.failed(failure), attempts: history.attempts, mayBeDuplicate: history.mayBeDuplicate)
    }

    /// The end of a delivery that goes back, with what is known of the job's earlier submissions.
    ///
    /// `wasJudged` is false if the journal has not been asked: then the copy, too, was delivered before if the job was.
    func returned(
        _ history: SubmissionHistory? = nil,
        awaitsVerdict: Bool = false,
        wasJudged: Bool = true
    ) -> JobEnd {
        let history = history ?? SubmissionHistory(self)
        return JobEnd(
            .returned(awaitsVerdict: awaitsVerdict, wasJudged: wasJudged),
            attempts: history.attempts,
            mayBeDuplicate: history.mayBeDuplicate
        )
    }

    /// The end that the journal knows of; nil if the job is to be submitted.
    func end(by answer: JournalAnswer) -> JobEnd? {
        var history = SubmissionHistory(self)
        switch answer {
        case .begun: return nil
        case .accepted(let taskID, let attempts, let isMarked, let at):
            var end = JobEnd(
                .duplicate(taskID: taskID),
                attempts: attempts,
                mayBeDuplicate: isMarked || mayBeDuplicate
            )
            end.submittedAt = at
            return end
        case .failed(let failure, let attempts, let isMarked):
            history.attempts = attempts
            history.mayBeDuplicate = history.mayBeDuplicate || isMarked
            return failed(failure, after: history)
        case .doubtful(let attempts):
            history.attempts = attempts
            return failed(FailureText.unfinished, after: history)
        case .conflict: return failed(FailureText.conflict)
        case .inFlight: return returned(awaitsVerdict: true)
        case .overBudget: return returned(wasJudged: false)
        }
    }
}
