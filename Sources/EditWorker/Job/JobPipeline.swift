package import AMQP
import EditJob
package import Journal
import SeedreamAPI
import SharedValues

/// The way of a job: decode, gate, journal, submit, classify, settle, acknowledge.
///
/// The journal comes after the gate, so that what waits there has no entry yet: a worker that is killed would leave doubt
/// about jobs that were never sent.
///
/// A class, because every job in flight holds it: a copy would count a reference for each of its parts.
package final class JobPipeline: Sendable {
    private let decoder: JobDecoder
    private let admission: Admission
    private let journal: JournalDesk
    private let submitter: JobSubmitter
    private let policy: RetryPolicy
    private let settler: Settler
    private let observer: JobObserver

    /// A pipeline of parts that outlive it.
    package init(
        decoder: JobDecoder,
        admission: Admission,
        journal: JournalDesk,
        submitter: JobSubmitter,
        policy: RetryPolicy,
        settler: Settler,
        observer: JobObserver
    ) {
        self.decoder = decoder
        self.admission = admission
        self.journal = journal
        self.submitter = submitter
        self.policy = policy
        self.settler = settler
        self.observer = observer
    }

    /// Takes a delivery to its end and tells the broker.
    package func take(_ delivery: Delivery) async {
        let start = ContinuousClock.now
        observer.received(delivery)
        defer { observer.left() }
        let job = decoder.receive(delivery)
        do {
            let end = try await end(of: job)
            // Nobody else can know of an acceptance. All other ends the journal tells to the next delivery.
            guard delivery.isLive || end.label == .submitted else { throw StaleDelivery() }
            try await settler.settle(end, of: job)
            observer.settled(end, of: job, after: start.duration(to: .now))
            await acknowledge(job, end)
        } catch is StaleDelivery {
            observer.lost(job)
        } catch is CancellationError {
            observer.interrupted(job)
        } catch {
            let wait = Self.wait(beforePuttingBack: job)
            observer.unsettled(job, error, wait: wait)
            try? await Task.sleep(for: wait)
            delivery.putBack()
        }
    }

    private func end(of job: ReceivedJob) async throws -> JobEnd {
        var body: [UInt8]?
        let images: Int
        do {
            let decoded = try decoder.decode(job)
            body = decoded.requestBody()
            images = Int(clamping: decoded.maxImages ?? 1)
        } catch {
            return job.failed(error)
        }
        if job.isAnonymous { observer.receivedAnonymous() }
        var history = SubmissionHistory(job)
        while true {
            // Made again for the few jobs that are held, instead of kept for the many that wait for an answer.
            guard let request = body.take() ?? (try? decoder.decode(job))?.requestBody() else {
                return job.returned(history)
            }
            if let end = try await attempt(job, consume request, images: images, &history) { return end }
        }
    }

    /// One attempt, within the gate's ticket and the journal's record, each of which is given back on every way out.
    ///
    /// Nil if the service was at fault and the job is held in the worker: it asks the gate again, uncounted.
    private func attempt(
        _ job: ReceivedJob,
        _ body: consuming [UInt8],
        images: Int,
        _ history: inout SubmissionHistory
    ) async throws -> JobEnd? {
        guard var ticket = await admission.enter() else { return job.returned(history, wasJudged: false) }
        let request = journalRequest(for: job, history, BodyDigest(copy body), images: images)
        var body: [UInt8]? = body
        do {
            return try await journal.recording(request) { answer in
                if answer == .overBudget { _ = ticket.leave(.serviceFault(.init(reason: .budget)), job: job.key) }
                if let known = job.end(by: answer) { return (known, known.verdict) }
                history.learn(answer)
                guard try await settler.canReach(job) else {
                    let gone = job.failed(FailureText.requesterGone, after: history)
                    return (gone, gone.verdict)
                }
                let nothingSent = job.returned(history).verdict
                guard await ticket.start() else { return (nil, nothingSent) }
                // Last, after everything that may have taken time: the broker may have given the job to somebody else.
                guard job.delivery.isLive else { throw StaleDelivery() }
                guard journal.maySubmit(request) else { return (job.returned(history), nothingSent) }
                let submission = await submitter.submit(body.take() ?? [], of: job) { try? decoder.decode(job) }
                let isHeld = ticket.leave(policy.forGate(submission.outcome), job: job.key)
                let end = policy.end(of: submission.outcome, after: history, message: submission.text)
                return (isHeld && submission.outcome.isServiceFault ? nil : end, end.verdict)
            }
        } catch let fault as JournalFault {
            // Without its entry no job is submitted: the gate closes as after a fault of the API.
            observer.failed(fault)
            _ = ticket.leave(.serviceFault(.init(reason: fault.isOfLedger ? .ledger : .journal)), job: job.key)
            return job.returned(history, wasJudged: false)
        }
    }

    private func journalRequest(
        for job: ReceivedJob,
        _ history: SubmissionHistory,
        _ digest: BodyDigest,
        images: Int
    ) -> JournalRequest {
        var request = JournalRequest(id: job.key, digest: digest, attempts: history.attempts + 1)
        request.images = images
        request.isAnonymous = job.isAnonymous
        request.replay = job.replayCount
        request.acceptsDoubleCharge = job.acceptsDoubleCharge
        request.takesVerdict = job.wasDeliveredBefore || job.awaitsVerdict
        request.retriesUnfinished = policy.noAnswer == .retry
        request.mayBeSubmittedElsewhere = job.wasDeliveredBefore
        return request
    }

    private func acknowledge(_ job: ReceivedJob, _ end: JobEnd) async {
        // A body that was too large to be kept gets into the dead letters by the broker.
        guard job.delivery.isBodyKept else { return job.delivery.deadLetter() }
        guard job.delivery.acknowledge(), end.label == .failed, !job.isAnonymous else { return }
        await journal.acknowledged(job.key)
    }

    /// Doubles up to a minute: 20 returns, the usual delivery limit, take a quarter of an hour.
    private static func wait(beforePuttingBack job: ReceivedJob) -> Duration {
        .seconds(min(60, 1 << min(job.countedDeliveries, 6)))
    }
}

/// The connection that a delivery came from is gone.
private struct StaleDelivery: Error {}
