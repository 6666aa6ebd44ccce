import EditJob

/// What is known of a job's submissions before this one, from its headers and from the journal.
///
/// It goes with every copy of the job, since the next worker may have another journal.
package struct SubmissionHistory: Hashable, Sendable {
    package var attempts: Int
    /// Whether one of them may have been accepted.
    package var mayBeDuplicate: Bool

    /// What the job's headers say.
    package init(_ job: ReceivedJob) {
        attempts = job.attempts
        mayBeDuplicate = job.mayBeDuplicate
    }

    /// Adds what the journal knows.
    mutating func learn(_ prior: PriorSubmission) {
        guard case .possible(let earlier) = prior else { return }
        attempts = max(attempts, earlier)
        mayBeDuplicate = true
    }
}
