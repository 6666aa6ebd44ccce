package import EditJob
package import EditWorker
package import RabbitMQ
package import SharedValues

/// Publishes dead letters to their queue again, and removes each only once the broker has confirmed its job.
///
/// Interrupted at any point, even killed, no letter is lost: at worst it stands on both queues, and the worker's journal
/// knows the job by its id.
package final class Replay {
    package struct Options: Sendable {
        /// The queue that the jobs go to.
        package var queue: ByteString
        /// Maximum jobs per period; nil for as fast as the broker takes them.
        package var rate: RateLimit?
        /// Whether every letter may have been paid for, whatever it says: those of `Q.unknown`.
        package var isDoubtful = false
        /// Whether letters that may have been paid for are replayed too.
        package var acceptsDoubleCharge = false
        /// How each job is corrected first, nil if it is replayed as it is.
        package var correction: JobCorrection?
        /// What to do with fields that this version does not know, for the check of a corrected job.
        package var unknownFields = UnknownFieldPolicy.reject
        /// The queue of tasks that are due, if known tasks are to be looked at again instead of submitting the jobs.
        package var lookQueue: ByteString?
        /// Whom to ask whether requesters of direct replies are still there; nil if that need not be known.
        package var requesters: QueueInspector?
        /// Whether nothing is done, only counted.
        package var isDryRun = false

        /// Replays to a queue.
        package init(queue: ByteString) {
            self.queue = queue
        }
    }

    /// What became of a letter.
    package enum Event: Sendable {
        /// Its job is on the queue, or would be, under a new id if it was corrected; the letter is removed.
        case replayed(DeadLetter, newID: String?)
        /// It is to be replayed without its `reply_to`, since its requester is gone: the reply goes to `Q.results`.
        case withoutRequester(DeadLetter)
        /// There is no task to be looked at: it is where it was.
        case noTask(DeadLetter)
        /// It may have been paid for, without consent to pay again: it is where it was.
        case left(DeadLetter)
        /// It cannot be corrected so, or is still invalid: it is where it was.
        case invalid(DeadLetter, JobCorrection.Fault)
    }

    /// A job that the broker did not take; its letter is where it was.
    package struct Refusal: Error, CustomStringConvertible {
        /// What is wrong and what to do.
        package let description: String
    }

    private let walk: DeadLetterQueue
    private let options: Options
    /// A letter whose job is on its way.
    private struct Outgoing {
        let letter: DeadLetter
        let newID: String?
    }

    private let publisher: JobPublisher<Outgoing>
    private let onEvent: (Event) -> Void
    private var start = ContinuousClock.now

    /// A replay of a walk's letters; the publisher's connection is another than the walk's.
    package init(
        _ walk: DeadLetterQueue,
        over publisher: Publisher,
        _ options: Options,
        onEvent: @escaping (Event) -> Void
    ) {
        self.walk = walk
        self.options = options
        self.onEvent = onEvent
        // With a rate no more on their way than a tenth of a second's: a kill leaves few that were published and are
        // still here.
        let depth = options.rate.map { max(1, Int(.milliseconds(100) / $0.interval)) } ?? 128
        self.publisher = JobPublisher(publisher, depth: depth) { job, fault in
            switch fault {
            case nil:
                try walk.remove(job.letter)
                onEvent(.replayed(job.letter, newID: job.newID))
            case .noQueue:
                throw AMQPError(
                    .notFound,
                    "there is no queue \(options.lookQueue ?? options.queue)",
                    remedy: "start a worker, or run: seedream-worker topology declare"
                )
            case .refused:
                throw Refusal(
                    description:
                        "the broker refused a job for \(options.lookQueue ?? options.queue); is the queue full?"
                )
            }
        }
    }

    /// Replays the letters that a filter takes, at most `limit`, until all are done or the task is cancelled.
    ///
    /// Throws `AMQPError` or `Refusal`; all letters that were not replayed are where they were then.
    package func run(
        _ filter: DeadLetterFilter,
        limit: Int?,
        isolation: isolated (any Actor)? = #isolation
    ) async throws {
        do {
            try await walk.each(filter, limit: limit) { letter in try await offer(letter) }
            try await publisher.finish()
        } catch {
            // Those behind the one that failed may be on the queue all the same, and must not be there twice.
            await publisher.abandon()
            try? await walk.confirmRemovals()
            throw error
        }
    }

    /// False if the task is cancelled.
    private func offer(_ letter: DeadLetter, isolation: isolated (any Actor)? = #isolation) async throws -> Bool {
        guard !Task.isCancelled else { return false }
        if let queue = options.lookQueue {
            guard let message = letter.lookedAtAgain(in: queue, at: .now) else {
                onEvent(.noTask(letter))
                return true
            }
            return try await replay(letter, message)
        }
        let needsConsent = options.isDoubtful || letter.mayHaveBeenCharged
        if needsConsent, !options.acceptsDoubleCharge, !(options.isDryRun && options.isDoubtful) {
            onEvent(.left(letter))
            return true
        }
        let corrected: [UInt8]?
        do throws(JobCorrection.Fault) {
            corrected = try options.correction?
                .applied(to: letter.delivery.body, unknownFields: options.unknownFields)
        } catch {
            onEvent(.invalid(letter, error))
            return true
        }
        let isAwaited = await isAwaited(letter)
        if !isAwaited { onEvent(.withoutRequester(letter)) }
        let message = letter.replayed(
            to: options.queue,
            acceptsDoubleCharge: needsConsent,
            correctedBody: corrected,
            keepsReplyTo: isAwaited
        )
        return try await replay(letter, message)
    }

    /// Whether a direct reply may find its requester; one that cannot be asked about may still be there.
    private func isAwaited(_ letter: DeadLetter, isolation: isolated (any Actor)? = #isolation) async -> Bool {
        guard let requester = letter.requester, let requesters = options.requesters else { return true }
        return (try? await requesters.exists(queue: requester)) ?? true
    }

    private func replay(
        _ letter: DeadLetter,
        _ message: OutboundMessage,
        isolation: isolated (any Actor)? = #isolation
    ) async throws -> Bool {
        let isNew = message.properties.messageID != letter.delivery.properties.messageID
        let newID = isNew ? message.properties.messageID?.text : nil
        guard !options.isDryRun else {
            onEvent(.replayed(letter, newID: newID))
            return true
        }
        guard await waitForTurn() else { return false }
        try await publisher.publish(message, for: Outgoing(letter: letter, newID: newID))
        if walk.isStale {
            try await publisher.finish()
            try await walk.putBack()
        }
        return true
    }

    private func waitForTurn(isolation: isolated (any Actor)? = #isolation) async -> Bool {
        guard let rate = options.rate else { return true }
        try? await Task.sleep(until: start)
        guard !Task.isCancelled else { return false }
        // Even if one took long: the time that was lost is not made up for in a burst.
        start = max(start + rate.interval, .now - rate.interval)
        return true
    }
}

extension DeadLetterQueue {
    /// Calls `body` for each letter that a filter takes, at most `limit`; false from it ends the walk.
    package func each(
        _ filter: DeadLetterFilter,
        limit: Int? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (DeadLetter) async throws -> Bool
    ) async throws {
        var left = limit ?? .max
        while left > 0, let letter = try await next() {
            guard filter.takes(letter) else { continue }
            left -= 1
            guard try await body(letter) else { return }
        }
    }
}
