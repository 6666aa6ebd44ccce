package import AMQP
import EditJob
package import Logging
package import SeedreamAPI

/// Sends one submission, at most once.
package protocol Submitter: Sendable {
    /// What was seen of the submission.
    func submit(_ submission: SubmissionRequest) async -> SubmissionSighting
}

extension SeedreamClient: Submitter {}

/// The way of a job: decode, gate, submit, classify, settle, acknowledge.
package struct JobPipeline: Sendable {
    /// Acknowledges a delivery on the connection that it came from.
    package typealias Acknowledge = @Sendable (DeliveryTag) -> Void

    private let decoder: JobDecoder
    private let admission: Admission
    private let tokens: TokenSource
    private let submitter: any Submitter
    private let policy: RetryPolicy
    private let replies: ReplyAddress
    private let publisher: any MessagePublisher
    private let settler: Settler
    private let identity: WorkerIdentity
    private let logger: Logger

    /// A pipeline of parts that outlive it.
    package init(
        decoder: JobDecoder,
        admission: Admission,
        tokens: TokenSource,
        submitter: any Submitter,
        policy: RetryPolicy,
        replies: ReplyAddress,
        publisher: any MessagePublisher,
        settler: Settler,
        identity: WorkerIdentity,
        logger: Logger
    ) {
        self.decoder = decoder
        self.admission = admission
        self.tokens = tokens
        self.submitter = submitter
        self.policy = policy
        self.replies = replies
        self.publisher = publisher
        self.settler = settler
        self.identity = identity
        self.logger = logger
    }

    /// Takes a delivery to its end.
    ///
    /// Without an end, because the worker ends first, it stays unacknowledged.
    package func run(_ delivery: Delivery, acknowledge: Acknowledge) async {
        let job = ReceivedJob(delivery, freshID: identity.freshID)
        do {
            let decision = try await decide(job)
            try await settler.settle(decision.settlement, of: job, attempts: decision.attempts)
            acknowledge(delivery.tag)
            report(decision, of: job)
        } catch {
            logger.log(.warning, "a job goes back to the broker unsettled", [.jobID: job.id, .error: "\(error)"])
        }
    }

    private func decide(_ job: ReceivedJob) async throws -> RetryPolicy.Decision {
        let edit: EditJob
        do {
            edit = try decoder.decode(job)
        } catch {
            return RetryPolicy.Decision(settlement: .failed(charging(error, job)), attempts: job.attempts)
        }
        if case .direct(let queue) = replies.route(job.delivery.properties.replyTo),
            try await !publisher.exists(queue: queue)
        {
            let failure = JobFailure(
                .requesterGone,
                "The requester of the direct reply-to is gone, so nobody would hear of the result; nothing was submitted."
            )
            return RetryPolicy.Decision(settlement: .failed(charging(failure, job)), attempts: job.attempts)
        }
        return await submit(edit, for: job)
    }

    /// What an earlier attempt may have cost, no later failure makes undone.
    private func charging(_ failure: JobFailure, _ job: ReceivedJob) -> JobFailure {
        var failure = failure
        if job.mayBeDuplicate { failure.charged = .maybe }
        return failure
    }

    private func submit(_ edit: EditJob, for job: ReceivedJob) async -> RetryPolicy.Decision {
        let body = edit.requestBody()
        while true {
            guard case .submit(let isProbe) = await admission.enter() else {
                return RetryPolicy.Decision(settlement: .giveBack, attempts: job.attempts)
            }
            let sighting = await submitter.submit(
                SubmissionRequest(
                    jobID: job.id,
                    body: body,
                    token: tokens.token,
                    traceparent: job.headerText(JobHeader.traceparent),
                    tracestate: job.headerText(JobHeader.tracestate)
                )
            )
            let outcome = policy.withinQueues(OutcomeTable.outcome(of: sighting))
            admission.leave(outcome, job: job.id, isProbe: isProbe)
            if case .serviceFault(let fault) = outcome {
                if fault.reason == .auth { tokens.distrust() }
                // Held in the worker: the same delivery waits for the gate and is submitted again, uncounted.
                if admission.closure?.isHeld == true { continue }
            }
            if case .accepted(_, let warning?) = outcome {
                logger.log(.warning, "an odd acceptance", [.jobID: job.id, .reason: warning.rawValue])
            }
            return policy.decision(
                for: outcome,
                attempts: job.attempts,
                mayBeDuplicate: job.mayBeDuplicate,
                message: FailureText.text(outcome, sighting: sighting, job: edit)
            )
        }
    }

    private func report(_ decision: RetryPolicy.Decision, of job: ReceivedJob) {
        var metadata: [LogKey: String] = [
            .jobID: job.id, .settlement: decision.settlement.result, .attempts: "\(decision.attempts)",
        ]
        switch decision.settlement {
        case .submitted(let taskID): metadata[.taskID] = taskID
        case .failed(let failure):
            metadata[.code] = failure.code.rawValue
            metadata[.charged] = failure.charged.rawValue
            metadata[.httpStatus] = failure.httpStatus.map { "\($0)" }
        case .retry(let wait, _): metadata[.wait] = DurationText.text(wait)
        case .giveBack: break
        }
        logger.log(.debug, "a job was settled", metadata)
    }
}
