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

    /// A settlement, and the attempts that it reports.
    package struct Decision: Hashable, Sendable {
        /// What to do.
        package let settlement: Settlement
        /// Counted submissions, this one included where it counts.
        package let attempts: Int

        /// A decision.
        package init(settlement: Settlement, attempts: Int) {
            self.settlement = settlement
            self.attempts = attempts
        }
    }

    /// What becomes of a job whose submission ended so.
    ///
    /// `attempts` are those before it.
    package func decision(
        for outcome: SubmissionOutcome,
        attempts: Int,
        mayBeDuplicate: Bool,
        message: String
    ) -> Decision {
        let made = attempts + 1
        let charged: JobFailure.Charge = mayBeDuplicate ? .maybe : .no
        func failed(_ code: JobFailure.Code, _ charged: JobFailure.Charge, _ status: Int?) -> Decision {
            Decision(
                settlement: .failed(JobFailure(code, message, charged: charged, httpStatus: status)),
                attempts: made
            )
        }
        switch outcome {
        case .accepted(let taskID, _):
            return Decision(settlement: .submitted(taskID: taskID), attempts: made)
        case .rejected(let rejection):
            return failed(rejection.isAboutContent ? .contentRejected : .apiRejected, charged, rejection.status)
        case .retry(let postponement):
            if let most = postponement.mostAttempts, made >= most {
                return failed(.apiRejected, charged, postponement.status)
            }
            guard made < maxAttempts else { return failed(.retriesExhausted, charged, postponement.status) }
            return retry(made, postponement.retryAfter, mayBeDuplicate: mayBeDuplicate)
        case .serviceFault:
            return Decision(settlement: .giveBack, attempts: attempts)
        case .unknown(let doubt):
            guard policy(for: doubt.kind) == .retry else { return failed(.outcomeUnknown, .maybe, doubt.status) }
            guard made < maxAttempts else { return failed(.retriesExhausted, .maybe, doubt.status) }
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

    private func retry(_ made: Int, _ asked: Duration?, mayBeDuplicate: Bool) -> Decision {
        let own = delays[min(made, delays.count) - 1]
        return Decision(
            settlement: .retry(after: max(own, asked ?? .zero), mayBeDuplicate: mayBeDuplicate),
            attempts: made
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
}
