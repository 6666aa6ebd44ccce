import JSON

/// Why a job ended without a task id, as the producer and the operator read it.
package struct JobFailure: Error, Hashable, Sendable {
    /// The reasons, by their stable names.
    package enum Code: String, CaseIterable, Sendable {
        case malformedJSON = "malformed_json"
        case invalidJob = "invalid_job"
        case unsupportedContentType = "unsupported_content_type"
        case messageTooLarge = "message_too_large"
        case requesterGone = "requester_gone"
        case jobIDConflict = "job_id_conflict"
        case apiRejected = "api_rejected"
        case contentRejected = "content_rejected"
        case retriesExhausted = "retries_exhausted"
        case outcomeUnknown = "outcome_unknown"
        /// The API took the job and made no images.
        case generationFailed = "generation_failed"
        /// The API took the job and does not know its task any more.
        case taskNotFound = "task_not_found"
        /// The images were not there in time.
        case followTimeout = "follow_timeout"
        /// The images are there, and where cannot be read.
        case resultUnreadable = "result_unreadable"
        /// An operator has cancelled the job.
        case cancelled
        /// The broker delivered the job too often.
        case deliveryLimit = "delivery_limit"
        /// The job expired before a worker could take it.
        case expired
    }

    /// Whether the API may have taken the job, and the money.
    package enum Charge: String, Sendable {
        case no
        case maybe
    }

    package var code: Code
    /// A sentence for a person: what failed and what to do; without prompt or token.
    package var message: String
    /// Whether the API may have taken the money.
    package var charged: Charge
    /// The API's status, where it answered.
    package var httpStatus: Int?
    /// For `invalidJob`, every broken rule.
    package var violations: [Violation]
    /// What the API said, where that is not understood; without the job's own texts.
    package var apiAnswer: String?

    /// A failure, by default one that cost nothing.
    package init(
        _ code: Code,
        _ message: String,
        charged: Charge = .no,
        httpStatus: Int? = nil,
        violations: [Violation] = []
    ) {
        self.code = code
        self.message = message
        self.charged = charged
        self.httpStatus = httpStatus
        self.violations = violations
    }

    /// The failure of a job that is none.
    package init(_ invalid: EditJob.Invalid) {
        switch invalid {
        case .malformed(let error):
            self.init(.malformedJSON, "The job is not valid JSON: \(error).")
        case .violations(let violations):
            let count = violations.count == 1 ? "a rule" : "\(violations.count) rules"
            let first = violations.first.map { $0.pointer == .root ? $0.message : "\($0.pointer): \($0.message)" } ?? ""
            self.init(.invalidJob, "The job breaks \(count) of the API. \(first)", violations: violations)
        }
    }
}
