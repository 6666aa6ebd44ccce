package import EditJob
package import SharedValues

// Ends and answers of journals as tests say them.

extension JobEnd {
    package static func accepted(taskID: String, at moment: Timestamp? = nil) -> JobEnd {
        JobEnd(.accepted(taskID: taskID, at: moment), attempts: 0)
    }

    package static func failed(_ failure: JobFailure) -> JobEnd { JobEnd(Verdict(failure), attempts: 0) }
}

extension PriorSubmission {
    /// Of another job with the same id, to a first request.
    package static let conflict = PriorSubmission.ended(.refused(.idConflict), attempts: 0)

    package static func accepted(
        taskID: String,
        attempts: Int,
        mayBeDuplicate: Bool,
        at moment: Timestamp? = nil
    ) -> PriorSubmission {
        .ended(.accepted(taskID: taskID, at: moment), attempts: attempts, mayBeDuplicate: mayBeDuplicate)
    }

    package static func failed(_ failure: JobFailure, attempts: Int, mayBeDuplicate: Bool) -> PriorSubmission {
        .ended(Verdict(failure), attempts: attempts, mayBeDuplicate: mayBeDuplicate)
    }

    package static func unknown(attempts: Int) -> PriorSubmission {
        .ended(.unknown(.unfinished), attempts: attempts)
    }
}
