/// What is known of a job's submissions before this one.
package enum PriorSubmission: Hashable, Sendable {
    /// None that may have been accepted: submit.
    case never
    /// One may have been accepted, and the job is to be submitted all the same; `attempts` were counted, of which the job
    /// itself may not know.
    case possible(attempts: Int = 0)
    /// The job is being submitted just now.
    case running
    /// The broker may have taken this delivery back, and given the job to another worker, which brings it to its end.
    case withdrawn
    /// How it ended, or that it is not known: not to be submitted.
    case ended(Verdict, attempts: Int, mayBeDuplicate: Bool = false)

    /// Whether the job is to be submitted.
    package var allowsSubmission: Bool {
        switch self {
        case .never, .possible: true
        case .running, .withdrawn, .ended: false
        }
    }
}

extension JobFailure {
    /// The failure of a job that was delivered before, to a worker whose journal is not this one.
    package static let deliveredBefore = JobFailure(
        .outcomeUnknown,
        "The job was delivered before, perhaps to a worker that submitted it and was killed: it may have been accepted "
            + "and charged. Look for it in the account before replaying it.",
        charged: .maybe
    )

    /// The failure of a job whose earlier submission has no known end.
    package static let unfinished = JobFailure(
        .outcomeUnknown,
        "An earlier submission of this job began and its end is not known: it may have been accepted and charged. "
            + "Look for it in the account before replaying it.",
        charged: .maybe
    )

    /// The failure of a job that an operator has cancelled; `writer` says who that was, `reason` why, if it is not empty.
    package static func cancelled(by writer: String, reason: String, charged: Charge = .no) -> JobFailure {
        let why = reason.isEmpty ? "" : " (\(reason))"
        let doubt =
            charged == .maybe
            ? " An earlier attempt may have been accepted and charged: look for it in the account." : ""
        return JobFailure(.cancelled, "The job was cancelled by \(writer)\(why).\(doubt)", charged: charged)
    }

    /// The failure of a job whose id another job had.
    package static let idConflict = JobFailure(
        .jobIDConflict,
        "Another job was submitted under the same message_id with another content; give each job an id of its own."
    )
}
