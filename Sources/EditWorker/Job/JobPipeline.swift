package import AMQP
import EditJob
package import Logging
package import SeedreamAPI

/// Sends one submission, at most once.
package protocol Submitter: Sendable {
    /// What was seen of the submission.
    ///
    /// Takes the submission over, which then need not be kept while the answer is waited for.
    func submit(_ submission: consuming SubmissionRequest) async -> SubmissionSighting
}

extension SeedreamClient: Submitter {}

/// What becomes of a delivery once its job has been through the pipeline.
package enum Disposition: Hashable, Sendable {
    /// All that replaces it is confirmed: acknowledge it.
    case settled
    /// As `settled`, and its job was refused for certain: the journal is to know when it is acknowledged.
    case refused(key: String)
    /// Its body was too large to be kept, and its producer has been told: the broker is to dead-letter it.
    case deadLetter
    /// It could not be settled for a reason of its own: after that wait back to the queue, where the delivery limit may
    /// count it.
    case putBack(after: Duration)
    /// The worker ends before the job does, or the connection is gone: the broker delivers it again.
    case leave
}

/// The connection that a delivery came from is gone.
private struct StaleDelivery: Error {}

/// The way of a job: decode, gate, journal, submit, classify, settle.
///
/// The journal comes after the gate, so that what waits there has no entry yet: a worker that is killed would leave doubt
/// about jobs that were never sent.
///
/// A class, because every job in flight holds it: a copy would count a reference for each of its parts.
package final class JobPipeline: Sendable {
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
    private let metrics: WorkerMetrics
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
        metrics: WorkerMetrics,
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
        self.metrics = metrics
        self.logger = logger
        anonymous = AnonymousJobs(metrics: metrics, logger: logger)
    }

    /// Takes a delivery to its end and tells the broker.
    package func take(_ delivery: Delivery, by acknowledger: some Acknowledger) async {
        switch await run(delivery, isLive: { acknowledger.isLive }) {
        case .settled:
            _ = acknowledger.acknowledge(delivery.tag)
        case .refused(let key):
            if acknowledger.acknowledge(delivery.tag) { await journal.acknowledged(key) }
        case .deadLetter:
            acknowledger.deadLetter(delivery.tag)
        case .putBack(let wait):
            try? await Task.sleep(for: wait)
            acknowledger.putBack(delivery.tag)
        case .leave:
            break
        }
    }

    /// Takes a delivery to its end, all but what the broker is to be told of it.
    ///
    /// `isLive` tells whether the connection that it came from is still there: otherwise the broker has given the job to
    /// somebody else, and only an acceptance may still be told, which nobody else can know.
    package func run(
        _ delivery: Delivery,
        isLive: @escaping @Sendable () -> Bool = { true }
    ) async -> Disposition {
        let start = ContinuousClock.now
        metrics.received(redelivered: delivery.redelivered)
        defer { metrics.left() }
        let job = ReceivedJob(delivery, freshID: identity.freshID)
        do {
            let decision = try await decide(job, isLive)
            // All else is told to the next delivery, from the journal.
            guard isLive() || decision.isNewlyAccepted else { throw StaleDelivery() }
            try await settler.settle(decision, of: job)
            metrics.settled(decision, after: start.duration(to: .now), age: job.age)
            report(decision, of: job)
            guard delivery.isBodyKept else { return .deadLetter }
            return decision.isRefusal && !job.isAnonymous ? .refused(key: job.key) : .settled
        } catch is StaleDelivery {
            logger.log(.debug, "a job's connection is gone; the broker delivers it again", [.jobID: job.id])
            return .leave
        } catch is CancellationError {
            logger.log(.warning, "the worker ends before a job; the broker delivers it again", [.jobID: job.id])
            return .leave
        } catch {
            let wait = Self.wait(beforePuttingBack: job)
            logger.log(
                .error,
                "a job cannot be settled and goes back",
                [.jobID: job.id, .error: "\(error)", .wait: DurationText.text(wait)]
            )
            return .putBack(after: wait)
        }
    }

    /// Doubles up to a minute: 20 returns, the usual delivery limit, take a quarter of an hour.
    private static func wait(beforePuttingBack job: ReceivedJob) -> Duration {
        .seconds(min(60, 1 << min(job.countedDeliveries, 6)))
    }

    private func decide(_ job: ReceivedJob, _ isLive: @Sendable () -> Bool) async throws -> JobDecision {
        var body: [UInt8]?
        do {
            body = try decoder.decode(job).requestBody()
        } catch {
            return job.failed(error)
        }
        if job.isAnonymous { anonymous.note() }
        var history = SubmissionHistory(job)
        while true {
            var isProbe = false
            if !admission.isOpen {
                guard case .submit(let mustProbe) = await admission.enter() else { return job.givenBack(history) }
                isProbe = mustProbe
            }
            // Made again for the few jobs that are held, instead of kept for the many that wait for an answer.
            guard let request = body.take() ?? (try? decoder.decode(job))?.requestBody() else {
                admission.handBack(isProbe: isProbe)
                return job.givenBack(history)
            }
            if let decision = try await pass(consume request, for: job, &history, isProbe: isProbe, isLive) {
                return decision
            }
        }
    }

    /// From the open gate over the journal to the API, and back to the journal with the verdict.
    ///
    /// Nil if the service was at fault and the job is held in the worker: it asks the gate again, uncounted.
    private func pass(
        _ body: consuming [UInt8],
        for job: ReceivedJob,
        _ history: inout SubmissionHistory,
        isProbe: Bool,
        _ isLive: @Sendable () -> Bool
    ) async throws -> JobDecision? {
        let answer: JournalAnswer
        do throws(JournalFault) {
            answer = try await begin(job, history, BodyDigest(copy body))
        } catch {
            // Without its entry no job is submitted: the gate closes as after a fault of the API.
            logger.log(.error, "the journal cannot be used", [.error: error.description])
            admission.leave(.serviceFault(.init(reason: .journal)), job: job.key, isProbe: isProbe)
            return job.givenBack(history)
        }
        guard case .begun(let isMarked, let earlier) = answer else {
            admission.handBack(isProbe: isProbe)
            return job.decision(by: answer)
        }
        history.mayBeDuplicate = history.mayBeDuplicate || isMarked
        history.attempts = max(history.attempts, earlier)
        do {
            if let requester = requester(of: job), try await !publisher.exists(queue: requester) {
                admission.handBack(isProbe: isProbe)
                let decision = job.failed(
                    FailureText.requesterGone,
                    attempts: history.attempts,
                    mayBeDuplicate: history.mayBeDuplicate
                )
                await finish(decision, of: job)
                return decision
            }
        } catch {
            admission.handBack(isProbe: isProbe)
            await finish(job.givenBack(history), of: job)
            throw error
        }
        if !admission.isOpen {
            guard await admission.start(isProbe: isProbe) else {
                admission.handBack(isProbe: isProbe)
                await finish(job.givenBack(history), of: job)
                return nil
            }
        }
        // Last, after everything that may have taken time: the broker may have given the job to somebody else meanwhile.
        guard isLive() else {
            admission.handBack(isProbe: isProbe)
            await finish(job.givenBack(history), of: job)
            throw StaleDelivery()
        }
        let (decision, isHeld) = await submit(consume body, for: job, history, isProbe: isProbe)
        await finish(decision, of: job)
        return isHeld ? nil : decision
    }

    private func begin(
        _ job: ReceivedJob,
        _ history: SubmissionHistory,
        _ digest: BodyDigest
    ) async throws(JournalFault) -> JournalAnswer {
        var request = JournalRequest(id: job.key, digest: digest, attempts: history.attempts + 1)
        request.replay = job.replayCount
        request.acceptsDoubleCharge = job.acceptsDoubleCharge
        request.takesVerdict = job.wasDeliveredBefore || job.awaitsVerdict
        request.retriesUnfinished = policy.noAnswer == .retry
        request.mayBeSubmittedElsewhere = job.wasDeliveredBefore
        guard !job.isAnonymous else {
            // Nobody can recognise it when it comes again, so that there is nothing to remember of it.
            return JournalEntry.answer(to: request, given: nil, by: "", now: 0, isAlive: { _ in false }).answer
        }
        if let now = journal.beginNow(request) { return now }
        return try await journal.begin(request)
    }

    /// Who waits behind a direct reply-to and may be gone; nil where the replies go to a queue.
    ///
    /// Asked for only when nothing but the submission is left to do: an earlier look would be stale, and an accepted job
    /// that comes again needs none.
    private func requester(of job: ReceivedJob) -> ByteString? {
        guard case .direct(let queue) = replies.route(job.delivery.properties.replyTo) else { return nil }
        return queue
    }

    private func finish(_ decision: JobDecision, of job: ReceivedJob) async {
        guard !job.isAnonymous, !journal.finishNow(job.key, decision.verdict) else { return }
        do throws(JournalFault) {
            try await journal.finish(job.key, decision.verdict)
        } catch {
            // The desk keeps the verdict; but no more is submitted before the store takes it.
            logger.log(.error, "the journal did not take a verdict", [.jobID: job.id, .error: error.description])
            admission.leave(.serviceFault(.init(reason: .journal)), job: job.key, isProbe: false)
        }
    }

    private func submit(
        _ body: consuming [UInt8],
        for job: ReceivedJob,
        _ history: SubmissionHistory,
        isProbe: Bool
    ) async -> (decision: JobDecision, isHeld: Bool) {
        let trace = TraceContext(job.delivery.properties.headers)
        let token = tokens.token
        let start = ContinuousClock.now
        let sighting = await submitter.submit(
            SubmissionRequest(
                jobID: job.id,
                body: consume body,
                token: token,
                traceparent: trace?.traceparent,
                tracestate: trace?.tracestate
            )
        )
        metrics.requested(status: sighting.status, after: start.duration(to: .now))
        let outcome = policy.withinQueues(OutcomeTable.outcome(of: sighting))
        admission.leave(policy.forGate(outcome), job: job.key, isProbe: isProbe)
        var isHeld = false
        if case .serviceFault(let fault) = outcome {
            if fault.reason == .auth { tokens.distrust() }
            isHeld = admission.closure?.isHeld == true
        }
        if case .accepted(_, let warning?) = outcome {
            logger.log(.warning, "an odd acceptance", [.jobID: job.id, .reason: warning.rawValue])
        }
        let decision = policy.decision(
            for: outcome,
            attempts: history.attempts,
            mayBeDuplicate: history.mayBeDuplicate,
            message: FailureText.text(outcome, sighting: sighting, token: token) {
                try? decoder.decode(job)
            }
        )
        return (decision, isHeld)
    }

    private func report(_ decision: JobDecision, of job: ReceivedJob) {
        // What a person may ask about at `info`; that all went well, at the rate of the queue, only on demand.
        let isOrdinary = ["submitted", "duplicate"].contains(decision.result)
        let level: Logger.Level = isOrdinary ? .debug : .info
        guard level >= logger.logLevel else { return }
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
        logger.log(level, "a job was settled", metadata)
    }
}
