import EditJob
import Logging
import RabbitMQ
package import SeedreamAPI
import SharedValues

/// Sends one submission, at most once.
package protocol Submitter: Sendable {
    /// What was seen of the submission.
    func submit(
        _ submission: consuming SubmissionRequest,
        over reservation: consuming Reservation
    ) async -> SubmissionResult
    /// Waits for a connection and keeps it for one submission.
    func reserve() async -> Reservation
}

extension Submitter {
    package func reserve() async -> Reservation { Reservation() }
}

extension SeedreamClient: Submitter {}

/// Submits jobs with the token of the moment, and says what came of each.
package struct JobSubmitter: Sendable {
    /// What came of a submission.
    struct Answer {
        let outcome: SubmissionOutcome
        /// The sentence for a person, asked for only if the job fails.
        let text: String
        /// What the API said, where that is not understood.
        let evidence: String?
        /// When the answer had come.
        let at: Timestamp
    }

    private let api: any Submitter
    private let tokens: TokenSource
    private let policy: RetryPolicy
    private let observer: JobObserver

    /// A submitter over the API; `policy` says which waits the queues can give.
    package init(_ api: any Submitter, tokens: TokenSource, policy: RetryPolicy, observer: JobObserver) {
        self.api = api
        self.tokens = tokens
        self.policy = policy
        self.observer = observer
    }

    /// Waits for a connection and keeps it for one submission.
    func reserve() async -> Reservation { await api.reserve() }

    /// Submits a job's request body; `decoded` gives the job again if the API's words are to be compared with it.
    func submit(
        _ body: [UInt8],
        of job: ReceivedJob,
        start permit: consuming Start,
        decoded: () -> EditJob?
    ) async -> Answer {
        let trace = TraceContext(job.delivery.properties.headers)
        let token = tokens.token
        let start = ContinuousClock.now
        let result = await api.submit(
            SubmissionRequest(
                jobID: job.id,
                body: body,
                token: token,
                traceparent: trace?.traceparent,
                tracestate: trace?.tracestate
            ),
            over: permit.takeConnection()
        )
        observer.requested(.submit, status: result.status, after: start.duration(to: .now))
        let outcome = policy.withinQueues(OutcomeTable.outcome(of: result))
        switch outcome {
        case .serviceFault(let fault) where fault.reason == .auth: tokens.refuse(token)
        case .accepted(_, let warning?): observer.warn(warning, of: job)
        default: break
        }
        let evidence = FailureText.evidence(outcome, result: result, token: token, job: decoded)
        if let evidence { observer.notUnderstood(evidence, outcome, of: job) }
        return Answer(
            outcome: outcome,
            text: FailureText.text(outcome, result: result, token: token, job: decoded),
            evidence: evidence,
            at: .now
        )
    }
}
