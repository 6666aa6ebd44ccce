import EditJob
package import Journal
import NIOConcurrencyHelpers
package import RabbitMQ

/// Brings jobs to a visible end that the broker took out of the job queue: they expired, came back too often, or are too large to
/// be kept.
///
/// None of them is submitted, so that the journal is only asked: a copy may be on its way in another worker, or have been accepted.
package final class UndeliveredJobs: Sendable {
    private let decoder: JobDecoder
    private let journal: JobJournal
    private let settler: Settler
    private let observer: JobObserver
    /// Between two tries of a job that cannot be told yet.
    private let pause: Duration
    /// Whether the journal could not be asked the last time.
    private let isFailing = NIOLockedValueBox(false)

    package init(
        decoder: JobDecoder,
        journal: JobJournal,
        settler: Settler,
        observer: JobObserver,
        pause: Duration = .seconds(1)
    ) {
        self.pause = pause
        self.decoder = decoder
        self.journal = journal
        self.settler = settler
        self.observer = observer
    }

    /// Brings a delivery of `Q.undelivered` to its end.
    package func take(_ delivery: Delivery) async {
        let start = ContinuousClock.now
        // A worker may have had it: what the journal does not cover is in doubt.
        let death = BrokerDeath(delivery.properties.headers)
        let job = decoder.receive(delivery, mark: { _, _ in journal.doubt() }, death: death)
        do {
            guard let end = try await end(of: job, death) else { return await putBack(job) }
            try await settler.settle(end, of: job)
            observer.settled(end, of: job, after: start.duration(to: .now))
            // The broker puts a body that is not kept into the dead letters, byte for byte.
            guard delivery.isBodyKept else { return delivery.deadLetter() }
            _ = delivery.acknowledge()
        } catch is StaleDelivery {
            observer.lost(job)
        } catch is CancellationError {
            observer.interrupted(job)
        } catch let fault as JournalFault {
            let wasFailing = isFailing.withLockedValue { isFailing in
                defer { isFailing = true }
                return isFailing
            }
            if !wasFailing { observer.failed(fault) }
            await putBack(job)
        } catch {
            observer.unsettled(job, error, wait: pause)
            await putBack(job)
        }
    }

    /// Puts it back after a pause; returns to `Q.undelivered` are not limited.
    private func putBack(_ job: ReceivedJob) async {
        try? await Task.sleep(for: pause)
        job.delivery.putBack()
    }

    /// How the job ends; nil as long as another worker submits it, or it is to be asked again.
    private func end(of job: ReceivedJob, _ death: BrokerDeath?) async throws -> JobEnd? {
        var failure = failure(of: job, death)
        let body: [UInt8]
        var invalid: JobFailure?
        do {
            body = try decoder.decode(job).requestBody()
        } catch {
            (body, invalid) = (job.delivery.body, error)
            if !job.delivery.isBodyKept { failure = error }
        }
        let prior = try await journal.prior(to: request(for: job, BodyDigest(body), countsDoubt: invalid == nil))
        if !job.isAnonymous { isFailing.withLockedValue { $0 = false } }
        switch prior {
        case .running, .withdrawn: return nil
        case .never, .possible, .ended: break
        }
        var history = SubmissionHistory(job)
        if let invalid {
            // As a worker may have told it that was stopped before its acknowledgement.
            if case .never = prior { return job.failed(invalid, after: history) }
            // With other settings a worker has taken it, and then the journal knows its id.
            failure.charged = .maybe
            return job.failed(failure, after: history)
        }
        // A worker may have told it that was stopped before its acknowledgement.
        if let known = job.end(after: prior) { return known }
        history.learn(prior)
        return job.failed(failure, after: history)
    }

    /// Whatever the job and the policies say of a submission that may be a second one.
    private func request(for job: ReceivedJob, _ digest: BodyDigest, countsDoubt: Bool) -> JournalRequest {
        var request = JournalRequest(id: job.key, digest: digest, attempts: job.attempts)
        request.isAnonymous = job.isAnonymous
        request.replay = job.replayCount
        request.takesVerdict = true
        guard countsDoubt else { return request }
        request.mayBeSubmittedElsewhere = job.mark.isInDoubt || job.isAnonymous
        request.lossesAtDelivery = job.mark.losses
        return request
    }

    private func failure(of job: ReceivedJob, _ death: BrokerDeath?) -> JobFailure {
        switch death?.reason {
        case "delivery_limit":
            JobFailure(
                .deliveryLimit,
                "The broker delivered the job as often as its queue allows, and no worker finished it."
            )
        // A worker rejected it because it was too large.
        case "rejected":
            JobFailure(
                .messageTooLarge,
                "The job has \(job.delivery.bodySize) bytes, more than a worker takes (worker.maxMessageBytes)."
            )
        default:
            JobFailure(
                .expired,
                "The job expired before a worker could take it. Send it again if it is still wanted."
            )
        }
    }
}
