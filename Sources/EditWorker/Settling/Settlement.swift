package import EditJob

/// What to do with a job, once and for all of its delivery.
package enum Settlement: Hashable, Sendable {
    /// The API has taken it: reply.
    case submitted(taskID: String)
    /// It has ended without: reply and dead letter, the latter to `Q.unknown` where money may have been spent.
    case failed(JobFailure)
    /// It waits for its next attempt: a copy in a retry queue.
    case retry(after: Duration, mayBeDuplicate: Bool)
    /// It was not submitted, for no reason of its own: a copy in the first retry queue, uncounted.
    case giveBack

    /// The settlement's name in metrics and logs.
    package var result: String {
        switch self {
        case .submitted: "submitted"
        case .failed(let failure): failure.charged == .maybe ? "unknown" : "failed"
        case .retry: "retried"
        case .giveBack: "returned"
        }
    }
}
