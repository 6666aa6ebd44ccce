import EditJob
package import Journal
package import RabbitMQ
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
    private let gate: Gate
    private let journal: JobJournal
    private let submitter: JobSubmitter
    private let policy: RetryPolicy
    private let settler: Settler
    private let observer: JobObserver

    /// A pipeline of parts that outlive it.
    package init(
        decoder: JobDecoder,
        gate: Gate,
        journal: JobJournal,
        submitter: JobSubmitter,
        policy: RetryPolicy,
        settler: Settler,
        observer: JobObserver
    ) {
        self.decoder = decoder
        self.gate = gate
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
        // Its end is told by whoever takes it from the queue of undelivered jobs, for which the broker keeps it.
        guard delivery.isBodyKept else {
            observer.leftToBroker(delivery)
            return delivery.deadLetter()
        }
        let job = decoder.receive(delivery) { journal.mark(wasDeliveredBefore: $0, awaitsVerdict: $1) }
        observer.taken(job)
        do {
            let end = try await settle(try await end(of: job), of: job)
            observer.settled(end, of: job, after: start.duration(to: .now))
            await acknowledge(job, end)
        } catch is StaleDelivery {
            observer.lost(job)
            // Where it is only possible that it is gone, the broker delivers it again.
            delivery.putBack()
        } catch is CancellationError {
            observer.interrupted(job)
        } catch {
            let wait = Self.wait(beforePuttingBack: job)
            observer.unsettled(job, error, wait: wait)
            try? await Task.sleep(for: wait)
            delivery.putBack()
        }
    }

    /// Publishes what replaces the delivery, as long as it is this worker's; the end as it was told.
    ///
    /// The journal tells the end to the next delivery. What it cannot tell is never told.
    private func settle(_ end: consuming JobEnd, of job: ReceivedJob) async throws -> JobEnd {
        var end = end
        end.isLate = !job.delivery.isLive && mayTellLate(end, of: job)
        do {
            try await settler.settle(end, of: job)
        } catch let gone as StaleDelivery {
            guard !end.isLate, mayTellLate(end, of: job) else { throw gone }
            end.isLate = true
            try await settler.settle(end, of: job)
        }
        return end
    }

    private func end(of job: ReceivedJob) async throws -> JobEnd {
        let (body, images): ([UInt8], Int)
        do {
            let edit = try decoder.decode(job)
            (body, images) = (edit.requestBody(), Int(clamping: edit.maxImages ?? 1))
        } catch {
            return job.failed(error)
        }
        if job.isAnonymous { observer.receivedAnonymous() }
        if job.asksForImages == nil { observer.receivedOddFollow(job) }
        var history = SubmissionHistory(job)
        if let end = try await endIfCancelled(job, history, BodyDigest(body)) { return end }
        var kept: KeptProbe?
        while true {
            if let end = try await attempt(job, body, images: images, &history, &kept) { return end }
        }
    }

    /// The end of a job that an operator has cancelled, which needs neither the gate nor a connection; nil if it is to be submitted.
    private func endIfCancelled(
        _ job: ReceivedJob,
        _ history: SubmissionHistory,
        _ digest: BodyDigest
    ) async throws -> JobEnd? {
        let request = journalRequest(for: job, history, digest, images: 1)
        guard journal.isCancelled(request) else { return nil }
        do {
            return try await journal.recording(request) { prior in
                if case .withdrawn = prior { throw StaleDelivery() }
                let end = job.end(after: prior)
                return (end, end ?? job.givenBack(.notSubmitted, history))
            }
        } catch is JournalFault {
            // The gate closes for it where the job would be submitted.
            return nil
        }
    }

    /// One attempt, within the gate's ticket and the journal's record, each of which is given back on every way out.
    ///
    /// Nil if the service was at fault and the job is held in the worker: it asks the gate again, uncounted.
    private func attempt(
        _ job: ReceivedJob,
        _ body: [UInt8],
        images: Int,
        _ history: inout SubmissionHistory,
        _ kept: inout KeptProbe?
    ) async throws -> JobEnd? {
        let keptUntil = kept?.end
        guard var ticket = await gate.enter(keptUntil: keptUntil) else {
            return job.givenBack(keptUntil == nil ? .notJudged : .notSubmitted, history)
        }
        guard await ticket.prepare(submitter.reserve) else { return nil }
        let request = journalRequest(for: job, history, BodyDigest(body), images: images)
        do {
            return try await journal.recording(request) { prior in
                if case .withdrawn = prior { throw StaleDelivery() }
                if let known = job.end(after: prior) { return (known, known) }
                history.learn(prior)
                let back = job.givenBack(.notSubmitted, history)
                guard let isReachable = try await settler.canReach(job) else { return (back, back) }
                guard isReachable else {
                    let gone = job.failed(FailureText.requesterGone, after: history)
                    return (gone, gone)
                }
                // Last, after everything that may have taken time: the broker or the fleet may have given the job to another.
                switch await ticket.start(
                    reserving: submitter.reserve,
                    { job.delivery.isLive && journal.maySubmit(request) }
                ) {
                case .gateClosed: return (nil, back)
                case .refused:
                    guard job.delivery.isLive else { throw StaleDelivery() }
                    return (back, back)
                case .go(let start):
                    let answer = await submitter.submit(body, of: job, start: start) { try? decoder.decode(job) }
                    return conclude(job, &ticket, answer, &history, &kept)
                }
            }
        } catch let fault as JournalFault {
            // Without its entry no job is submitted: the gate closes as after a fault of the API.
            if fault.kind != .budget { observer.failed(fault) }
            _ = ticket.leave(.serviceFault(.init(reason: fault.gateReason)), job: job.key)
            return job.givenBack(.notJudged, history)
        }
    }

    /// What a submission comes to, for the delivery and for the journal; nil for the delivery if the job is held.
    private func conclude(
        _ job: ReceivedJob,
        _ ticket: inout Ticket,
        _ answer: JobSubmitter.Answer,
        _ history: inout SubmissionHistory,
        _ kept: inout KeptProbe?
    ) -> (JobEnd?, JobEnd) {
        let seen = policy.forGate(answer.outcome)
        let left = ticket.leave(seen, job: job.key)
        let outcome = left.outcome == seen ? answer.outcome : left.outcome
        let end = policy.end(of: outcome, after: history, answer)
        if left.mayKeepProbe, keepProbe(&kept, end, &history) {
            return (nil, .retrying(attempts: history.attempts))
        }
        return (left.isHeld && outcome.isServiceFault ? nil : end, end)
    }

    /// Keeps a job that may have been accepted as the probe, if it would be tried again anyway.
    ///
    /// Each try of another job could be paid for twice. Counted once, however often it is tried.
    private func keepProbe(_ kept: inout KeptProbe?, _ end: JobEnd, _ history: inout SubmissionHistory) -> Bool {
        if kept == nil {
            guard case .retry = end.verdict, let mine = KeptProbe(gate) else { return false }
            kept = consume mine
            history.attempts = end.attempts
        }
        history.mayBeDuplicate = true
        return true
    }

    /// Whether an acceptance is told though the delivery is gone: if no other worker can know of it, or the one that has the job
    /// meanwhile has told that its outcome is unknown.
    private func mayTellLate(_ end: JobEnd, of job: ReceivedJob) -> Bool {
        end.label == .submitted && (job.isAnonymous || journal.mayTellLate(job.key))
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
        request.isOfEndedTask = job.isOfEndedTask
        request.takesVerdict = job.wasDeliveredBefore || job.awaitsVerdict
        request.retriesUnfinished = policy.noAnswer == .retry
        // One without an id no store can know, whatever it covers.
        request.mayBeSubmittedElsewhere = job.mark.isInDoubt || job.isAnonymous && job.wasDeliveredBefore
        request.lossesAtDelivery = job.mark.losses
        request.readsAtDelivery = job.mark.reads
        request.editedFrom = job.editedFrom
        return request
    }

    private func acknowledge(_ job: ReceivedJob, _ end: JobEnd) async {
        guard job.delivery.acknowledge(), end.label == .failed, !job.isAnonymous else { return }
        await journal.acknowledged(job.key)
    }

    /// Doubles up to a minute: 20 returns, the usual delivery limit, take a quarter of an hour.
    private static func wait(beforePuttingBack job: ReceivedJob) -> Duration {
        .seconds(min(60, 1 << min(job.countedDeliveries, 6)))
    }
}
