package import SharedValues

/// How a submission ended: one form for the pipeline, the journal, the ledger, the reply and the metrics.
package enum Verdict: Hashable, Sendable {
    /// The API has taken the job, at that moment; nil means when it is written.
    case accepted(taskID: String, at: Timestamp? = nil)
    /// The job has failed, and nothing was charged.
    ///
    /// Indirect, as the next one, because few jobs end so, and every verdict would be as large.
    indirect case refused(JobFailure)
    /// The API may have taken the job and charged for it.
    indirect case unknown(JobFailure)
    /// The job is to be submitted again by itself after a wait, and the submission was counted.
    case retry(after: Duration)
    /// The job was not submitted, for no reason of its own, and goes back.
    case givenBack(WhyGivenBack)

    package enum WhyGivenBack: Hashable, Sendable {
        /// Nothing is submitted now.
        case notSubmitted
        /// Nor has the journal said whether an earlier delivery may have been submitted.
        case notJudged
        /// Another worker is submitting the same job: the copy takes that one's end.
        case running
    }

    /// The verdict on a job that has failed, by what it may have cost.
    package init(_ failure: JobFailure) {
        self = failure.charged == .maybe ? .unknown(failure) : .refused(failure)
    }

    /// Why the job has failed; nil if it has not.
    package var failure: JobFailure? {
        switch self {
        case .refused(let failure), .unknown(let failure): failure
        case .accepted, .retry, .givenBack: nil
        }
    }
}
