import EditJob
package import SeedreamAPI

/// Decides what an outcome means for its job, by the attempts so far and the operator's policies: a pure function.
package struct RetryPolicy: Hashable, Sendable {
    /// What to do with a submission whose outcome is not known.
    package enum Doubtful: String, Sendable, CaseIterable {
        /// A person decides: the job goes to `Q.unknown`.
        case park
        /// It is submitted again, and may be paid twice; the reply says so.
        case retry
    }

    /// Counted submissions of one job.
    package var maxAttempts: Int
    /// The wait after the first, second … attempt; more attempts than delays repeat the last.
    package var delays: [Duration]
    /// For a submission that was sent and never answered.
    package var noAnswer: Doubtful
    /// For 500, 502, 504 and their like.
    package var gatewayError: Doubtful

    /// A policy; at least one delay.
    package init(maxAttempts: Int, delays: [Duration], noAnswer: Doubtful, gatewayError: Doubtful) {
        self.maxAttempts = maxAttempts
        self.delays = delays
        self.noAnswer = noAnswer
        self.gatewayError = gatewayError
    }

    /// What becomes of a job whose submission ended so.
    ///
    /// `attempts` are those before it; `mayBeDuplicate` whether one of those may have been accepted.
    package func decision(
        for outcome: SubmissionOutcome,
        attempts: Int,
        mayBeDuplicate: Bool,
        message: String
    ) -> JobDecision {
        let made = attempts + 1
        func failed(_ code: JobFailure.Code, isDoubtful: Bool = false, _ status: Int?) -> JobDecision {
            let charged: JobFailure.Charge = isDoubtful || mayBeDuplicate ? .maybe : .no
            return JobDecision(
                settlement: .failed(JobFailure(code, message, charged: charged, httpStatus: status)),
                attempts: made,
                mayBeDuplicate: mayBeDuplicate
            )
        }
        switch outcome {
        case .accepted(let taskID, _):
            return JobDecision(settlement: .submitted(taskID: taskID), attempts: made, mayBeDuplicate: mayBeDuplicate)
        case .rejected(let rejection):
            let code: JobFailure.Code = rejection.isAboutContent ? .contentRejected : .apiRejected
            return failed(code, rejection.status)
        case .retry(let postponement):
            if let most = postponement.mostAttempts, made >= most {
                return failed(.apiRejected, postponement.status)
            }
            guard made < maxAttempts else {
                return failed(.retriesExhausted, postponement.status)
            }
            return retry(made, postponement.retryAfter, mayBeDuplicate: mayBeDuplicate)
        case .serviceFault:
            return JobDecision(settlement: .giveBack, attempts: attempts, mayBeDuplicate: mayBeDuplicate)
        case .unknown(let doubt):
            guard policy(for: doubt.kind) == .retry else {
                return failed(.outcomeUnknown, isDoubtful: true, doubt.status)
            }
            guard made < maxAttempts else { return failed(.retriesExhausted, isDoubtful: true, doubt.status) }
            return retry(made, doubt.retryAfter, mayBeDuplicate: true)
        }
    }

    private func policy(for kind: SubmissionOutcome.Doubt.Kind) -> Doubtful {
        switch kind {
        case .silent: noAnswer
        case .gateway: gatewayError
        // It says that it was accepted; trying again would pay again for certain.
        case .unreadable: .park
        }
    }

    private func retry(_ made: Int, _ asked: Duration?, mayBeDuplicate: Bool) -> JobDecision {
        let own = delays[min(made, delays.count) - 1]
        return JobDecision(
            settlement: .retry(after: max(own, asked ?? .zero)),
            attempts: made,
            mayBeDuplicate: mayBeDuplicate
        )
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
        guard case .unknown(let doubt) = outcome, doubt.kind == .gateway, let asked = doubt.retryAfter,
            let longest = delays.max(), asked > longest
        else { return outcome }
        return .serviceFault(.init(reason: .serverError, status: doubt.status, retryAfter: asked))
    }
}
