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
        return JobEnd(Verdict(failure), attempts: history.attempts, mayBeDuplicate: history.mayBeDuplicate)
    }

    /// The end of a delivery that goes back, with what is known of the job's earlier submissions.
    func givenBack(_ why: Verdict.WhyGivenBack = .notSubmitted, _ history: SubmissionHistory? = nil) -> JobEnd {
        let history = history ?? SubmissionHistory(self)
        return JobEnd(.givenBack(why), attempts: history.attempts, mayBeDuplicate: history.mayBeDuplicate)
    }

    /// The end that the journal knows of; nil if the job is to be submitted, or the delivery is not this worker's any more.
    func end(after prior: PriorSubmission) -> JobEnd? {
        switch prior {
        case .never, .possible, .withdrawn: return nil
        case .running: return givenBack(.running)
        case .ended(let verdict, let attempts, let isMarked):
            var history = SubmissionHistory(self)
            history.attempts = attempts
            history.mayBeDuplicate = history.mayBeDuplicate || isMarked
            if let failure = verdict.failure { return failed(failure, after: history) }
            var end = JobEnd(verdict, attempts: history.attempts, mayBeDuplicate: history.mayBeDuplicate)
            end.isRepeated = true
            return end
        }
    }
}
