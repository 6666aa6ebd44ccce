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

/// The way of a job: decode, journal, gate, submit, classify, settle, acknowledge.
package struct JobPipeline: Sendable {
    /// Acknowledges a delivery on the connection that it came from.
    package typealias Acknowledge = @Sendable (DeliveryTag) -> Void

    private let decoder: JobDecoder
    private let admission: Admission
    private let tokens: TokenSource
    private let submitter: any Submitter
    private let journal: JournalDesk
    private let policy: RetryPolicy
    private let replies: ReplyAddress
    private let publisher: any MessagePublisher
    private let settler: Settler
    private let identity: WorkerIdentity
    private let logger: Logger
    private let anonymous: AnonymousJobs

    /// A pipeline of parts that outlive it.
    package init(
        decoder: JobDecoder,
        admission: Admission,
        tokens: TokenSource,
        submitter: any Submitter,
        journal: JournalDesk,
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
        self.journal = journal
        self.policy = policy
        self.replies = replies
        self.publisher = publisher
        self.settler = settler
        self.identity = identity
        self.logger = logger
        anonymous = AnonymousJobs(logger: logger)
    }

    /// Takes a delivery to its end.
    ///
    /// Without an end, because the worker ends first, it stays unacknowledged.
    package func run(_ delivery: Delivery, acknowledge: Acknowledge) async {
        let job = ReceivedJob(delivery, freshID: identity.freshID)
        do {
            let decision = try await decide(job)
            try await settler.settle(decision, of: job)
            acknowledge(delivery.tag)
            report(decision, of: job)
        } catch {
            logger.log(.warning, "a job goes back to the broker unsettled", [.jobID: job.id, .error: "\(error)"])
        }
    }

    private func decide(_ job: ReceivedJob) async throws -> JobDecision {
        let edit: EditJob
        do {
            edit = try decoder.decode(job)
        } catch {
            return job.failed(charging(error, job))
        }
        if case .direct(let queue) = replies.route(job.delivery.properties.replyTo),
            try await !publisher.exists(queue: queue)
        {
            let failure = JobFailure(
                .requesterGone,
                "The requester of the direct reply-to is gone, so nobody would hear of the result; nothing was submitted."
            )
            return job.failed(charging(failure, job))
        }
        return await submit(edit, for: job)
    }

    /// What an earlier attempt may have cost, no later failure makes undone.
    private func charging(_ failure: JobFailure, _ job: ReceivedJob) -> JobFailure {
        var failure = failure
        if job.mayBeDuplicate { failure.charged = .maybe }
        return failure
    }

    /// From the journal over the gate to the API, and back to the journal with the verdict.
    private func submit(_ edit: EditJob, for job: ReceivedJob) async -> JobDecision {
        let body = edit.requestBody()
        // Nobody can recognise a job without an id when it comes again, so there is nothing to remember of it.
        guard !job.isAnonymous else {
            anonymous.note()
            return await submit(edit, body, for: job, mayBeDuplicate: job.mayBeDuplicate)
        }
        do throws(JournalFault) {
            switch try await journal.begin(request(for: job, body)) {
            case .begun(let mayBeDuplicate):
                let doubt = mayBeDuplicate || job.mayBeDuplicate
                let decision = await submit(edit, body, for: job, mayBeDuplicate: doubt)
                await finish(decision, of: job)
                return decision
            case .accepted(let taskID, let attempts, let mayBeDuplicate):
                return JobDecision(
                    settlement: .submitted(taskID: taskID),
                    attempts: attempts,
                    mayBeDuplicate: mayBeDuplicate || job.mayBeDuplicate,
                    duplicateOfDelivery: true
                )
            case .failed(let failure, let attempts, let mayBeDuplicate):
                return JobDecision(
                    settlement: .failed(failure),
                    attempts: attempts,
                    mayBeDuplicate: mayBeDuplicate || job.mayBeDuplicate
                )
            case .doubtful(let attempts):
                return JobDecision(
                    settlement: .failed(FailureText.unfinished),
                    attempts: attempts,
                    mayBeDuplicate: job.mayBeDuplicate
                )
            case .inFlight:
                return JobDecision(settlement: .giveBack, attempts: job.attempts, mayBeDuplicate: job.mayBeDuplicate)
            case .conflict:
                return job.failed(charging(FailureText.conflict, job))
            }
        } catch {
            await closeGate(for: error, job)
            return JobDecision(settlement: .giveBack, attempts: job.attempts, mayBeDuplicate: job.mayBeDuplicate)
        }
    }

    private func request(for job: ReceivedJob, _ body: [UInt8]) -> JournalRequest {
        var request = JournalRequest(id: job.id, digest: BodyDigest(body), attempts: job.attempts + 1)
        request.replay = job.replayCount
        request.acceptsDoubleCharge = job.acceptsDoubleCharge
        request.isRedelivered = job.delivery.redelivered
        request.retriesUnfinished = policy.noAnswer == .retry
        return request
    }

    /// Without its entry no job is submitted: the gate closes as after a fault of the API.
    private func closeGate(for fault: JournalFault, _ job: ReceivedJob) async {
        logger.log(.error, "the journal cannot be used", [.error: fault.description])
        guard case .submit(let isProbe) = await admission.enter() else { return }
        admission.leave(.serviceFault(.init(reason: .journal)), job: job.id, isProbe: isProbe)
    }

    private func finish(_ decision: JobDecision, of job: ReceivedJob) async {
        do throws(JournalFault) {
            try await journal.finish(job.id, decision.verdict)
        } catch {
            // The entry stays without a verdict, so the job will be doubtful should it come again; no money is at risk.
            logger.log(.error, "the journal did not take a verdict", [.jobID: job.id, .error: error.description])
        }
    }

    private func submit(
        _ edit: EditJob,
        _ body: [UInt8],
        for job: ReceivedJob,
        mayBeDuplicate: Bool
    ) async -> JobDecision {
        let trace = TraceContext(job.delivery.properties.headers)
        while true {
            guard case .submit(let isProbe) = await admission.enter() else {
                return JobDecision(settlement: .giveBack, attempts: job.attempts, mayBeDuplicate: mayBeDuplicate)
            }
            let sighting = await submitter.submit(
                SubmissionRequest(
                    jobID: job.id,
                    body: body,
                    token: tokens.token,
                    traceparent: trace?.traceparent,
                    tracestate: trace?.tracestate
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
                mayBeDuplicate: mayBeDuplicate,
                message: FailureText.text(outcome, sighting: sighting, job: edit)
            )
        }
    }

    private func report(_ decision: JobDecision, of job: ReceivedJob) {
        var metadata: [LogKey: String] = [
            .jobID: job.id, .settlement: decision.result, .attempts: "\(decision.attempts)",
        ]
        switch decision.settlement {
        case .submitted(let taskID): metadata[.taskID] = taskID
        case .failed(let failure):
            metadata[.code] = failure.code.rawValue
            metadata[.charged] = failure.charged.rawValue
            metadata[.httpStatus] = failure.httpStatus.map { "\($0)" }
        case .retry(let wait): metadata[.wait] = DurationText.text(wait)
        case .giveBack: break
        }
        logger.log(.debug, "a job was settled", metadata)
    }
}

extension ReceivedJob {
    /// The decision that the job has failed before any submission.
    fileprivate func failed(_ failure: JobFailure) -> JobDecision {
        JobDecision(settlement: .failed(failure), attempts: attempts, mayBeDuplicate: mayBeDuplicate)
    }
}
