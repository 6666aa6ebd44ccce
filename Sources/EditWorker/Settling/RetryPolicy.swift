package import EditJob
package import SeedreamAPI
package import SharedValues

/// Decides what an outcome means for its job, by the attempts so far and the operator's policies: a pure function.
package struct RetryPolicy: Hashable, Sendable {
    /// Counted submissions of one job.
    package var maxAttempts: Int
    /// The wait after the first, second … attempt; more attempts than delays repeat the last.
    package var delays: [Duration]
    /// For a submission that was sent and never answered.
    package var noAnswer: DoubtPolicy
    /// For 500, 502, 504 and their like.
    package var gatewayError: DoubtPolicy

    /// A policy; at least one delay.
    package init(maxAttempts: Int, delays: [Duration], noAnswer: DoubtPolicy, gatewayError: DoubtPolicy) {
        self.maxAttempts = maxAttempts
        self.delays = delays
        self.noAnswer = noAnswer
        self.gatewayError = gatewayError
    }

    /// The end of a job whose submission had that outcome, as it looks with what was seen of it.
    func end(of outcome: SubmissionOutcome, after history: SubmissionHistory, _ answer: JobSubmitter.Answer) -> JobEnd {
        var end = end(of: outcome, after: history, message: answer.text)
        if case .accepted(let taskID, _) = end.verdict { end.verdict = .accepted(taskID: taskID, at: answer.at) }
        if var failure = end.verdict.failure, answer.evidence != nil {
            failure.apiAnswer = answer.evidence
            end.verdict = Verdict(failure)
        }
        return end
    }

    /// The end of a job whose submission had that outcome, after its earlier submissions.
    package func end(of outcome: SubmissionOutcome, after history: SubmissionHistory, message: String) -> JobEnd {
        let made = history.attempts + 1
        func failed(_ code: JobFailure.Code, isDoubtful: Bool = false, _ status: Int?) -> JobEnd {
            let charged: JobFailure.Charge = isDoubtful || history.mayBeDuplicate ? .maybe : .no
            return JobEnd(
                Verdict(JobFailure(code, message, charged: charged, httpStatus: status)),
                attempts: made,
                mayBeDuplicate: history.mayBeDuplicate
            )
        }
        func retried(_ asked: Duration?, mayBeDuplicate: Bool) -> JobEnd {
            let own = delays[min(made, delays.count) - 1]
            return JobEnd(.retry(after: max(own, asked ?? .zero)), attempts: made, mayBeDuplicate: mayBeDuplicate)
        }
        switch outcome {
        case .accepted(let taskID, _):
            return JobEnd(.accepted(taskID: taskID), attempts: made, mayBeDuplicate: history.mayBeDuplicate)
        case .rejected(let rejection):
            return failed(rejection.isAboutContent ? .contentRejected : .apiRejected, rejection.status)
        case .retry(let postponement):
            if let most = postponement.mostAttempts, made >= most {
                return failed(.apiRejected, postponement.status)
            }
            guard made < maxAttempts else { return failed(.retriesExhausted, postponement.status) }
            return retried(postponement.retryAfter, mayBeDuplicate: history.mayBeDuplicate)
        case .serviceFault:
            return JobEnd(
                .givenBack(.notSubmitted),
                attempts: history.attempts,
                mayBeDuplicate: history.mayBeDuplicate
            )
        case .unknown(let doubt):
            guard policy(for: doubt.kind) == .retry else {
                return failed(.outcomeUnknown, isDoubtful: true, doubt.status)
            }
            guard made < maxAttempts else { return failed(.retriesExhausted, isDoubtful: true, doubt.status) }
            return retried(doubt.retryAfter, mayBeDuplicate: true)
        }
    }

    private func policy(for kind: SubmissionOutcome.Doubt.Kind) -> DoubtPolicy {
        switch kind {
        case .silent: noAnswer
        case .gateway: gatewayError
        // It says that it was accepted; trying again would pay again for certain.
        case .unreadable: .park
        }
    }
}

extension RetryPolicy {
    /// The outcome as it is under this policy: a wait that no queue can give is the service's, and closes the gate.
    package func withinQueues(_ outcome: SubmissionOutcome) -> SubmissionOutcome {
        guard case .retry(let postponement) = outcome, let asked = postponement.retryAfter,
            let longest = delays.max(), asked > longest
        else { return outcome }
        return .serviceFault(.init(reason: .unavailable, status: postponement.status, retryAfter: asked))
    }

    /// What the gate is told of an outcome.
    ///
    /// A gateway's error that asks for a longer wait than any queue's
    /// closes it for that time: the job has been counted and comes back earlier, and must find the gate closed.
    package func forGate(_ outcome: SubmissionOutcome) -> SubmissionOutcome {
        guard case .unknown(let doubt) = outcome, doubt.kind == .gateway, !doubt.isOfUnavailableService,
            let asked = doubt.retryAfter,
            let longest = delays.max(), asked > longest
        else { return outcome }
        return .serviceFault(.init(reason: .serverError, status: doubt.status, retryAfter: asked))
    }
}
