package import EditJob
import SharedValues

/// What a journal holds of one job, and the rules by which it answers: the same for every store.
package struct JournalEntry: Hashable, Sendable {
    /// How far the job's submission got.
    package enum State: Hashable, Sendable {
        /// Under way, by that worker.
        case begun(owner: String)
        case accepted(taskID: String)
        /// Failed, for certain or perhaps.
        ///
        /// Apart, because few entries are, and all would be as large.
        indirect case failed(JobFailure)
        /// Perhaps accepted, to be submitted again by itself.
        case retrying
        /// Refused for certain, and the delivery is acknowledged: it comes again only if that acknowledgement was lost.
        indirect case refused(JobFailure)
    }

    /// How long after an acknowledgement the same delivery may come again because that was lost with its connection, in
    /// milliseconds: longer than anybody takes to notice.
    private static let lostAcknowledgement: Int64 = 60_000

    /// The digest of what was submitted.
    package var digest: BodyDigest
    /// How far it got.
    package var state: State
    package var attempts: Int
    /// The last replay that was let through; 0 for none.
    package var replay: Int64
    /// Whether a submission before the last may have been accepted.
    package var mayBeDuplicate: Bool
    /// When the entry last changed, in milliseconds since 1970.
    package var changedAt: Int64

    package init(
        digest: BodyDigest,
        state: State,
        attempts: Int,
        replay: Int64,
        mayBeDuplicate: Bool,
        changedAt: Int64
    ) {
        self.digest = digest
        self.state = state
        self.attempts = attempts
        self.replay = replay
        self.mayBeDuplicate = mayBeDuplicate
        self.changedAt = changedAt
    }

    /// What is known before a request, and the entry to be written before the answer is given, if any.
    ///
    /// `isAlive` tells whether the worker that a begun entry names is still there.
    package static func prior(
        to request: JournalRequest,
        given entry: JournalEntry?,
        by owner: String,
        now: Int64,
        isAlive: (String) -> Bool
    ) -> (prior: PriorSubmission, write: JournalEntry?) {
        let (prior, write) = judge(request, given: entry, by: owner, now: now, isAlive: isAlive)
        return (prior, request.isQuestion ? nil : write)
    }

    private static func judge(
        _ request: JournalRequest,
        given entry: JournalEntry?,
        by owner: String,
        now: Int64,
        isAlive: (String) -> Bool
    ) -> (prior: PriorSubmission, write: JournalEntry?) {
        func begin(mayBeDuplicate: Bool, earlier: Int = 0) -> (PriorSubmission, JournalEntry?) {
            let begun = JournalEntry(
                digest: request.digest,
                state: .begun(owner: owner),
                attempts: max(request.attempts, min(earlier, Int.max - 1) + 1),
                replay: max(request.replay, entry?.replay ?? 0),
                mayBeDuplicate: mayBeDuplicate,
                changedAt: now
            )
            return (mayBeDuplicate ? .possible(attempts: earlier) : .never, begun)
        }
        // Who only asks has another end to tell, unless one was told.
        let goesOn = request.retriesUnfinished || request.isQuestion
        // Another worker may have submitted this delivery whose journal is not this one, and may have been killed since.
        let isInDoubt = request.mayBeSubmittedElsewhere && !goesOn
        /// The end of a delivery that is in doubt. It must stand for the copies that follow, so it is written.
        func doubt(mayBeDuplicate: Bool, earlier: Int = 0) -> (PriorSubmission, JournalEntry?) {
            let attempts = max(request.attempts, earlier)
            let doubtful = JournalEntry(
                digest: request.digest,
                state: .failed(.deliveredBefore),
                attempts: attempts,
                replay: max(request.replay, entry?.replay ?? 0),
                mayBeDuplicate: mayBeDuplicate,
                changedAt: now
            )
            return (.ended(.unknown(.deliveredBefore), attempts: attempts, mayBeDuplicate: mayBeDuplicate), doubtful)
        }
        /// The answer if nothing is known of this publication.
        func beginUnknown() -> (PriorSubmission, JournalEntry?) {
            guard request.mayBeSubmittedElsewhere else { return begin(mayBeDuplicate: false) }
            guard !isInDoubt else { return doubt(mayBeDuplicate: false) }
            return begin(mayBeDuplicate: true, earlier: request.attempts)
        }
        guard let entry else { return beginUnknown() }
        // Each replay counts once: a replayed job that is delivered again is no new permission.
        let isNewReplay = request.replay > entry.replay
        if let failure = entry.failure {
            let isSame =
                entry.digest == request.digest && request.takesVerdict && !isNewReplay
                && !entry.isRefusedAndGone(at: now)
            if isSame {
                let (attempts, isMarked) = (entry.attempts, entry.mayBeDuplicate)
                return (.ended(Verdict(failure), attempts: attempts, mayBeDuplicate: isMarked), nil)
            }
            // After a definite no it is a new job.
            if failure.charged == .no { return beginUnknown() }
        }
        guard entry.digest == request.digest else {
            return (.ended(.refused(.idConflict), attempts: max(0, request.attempts - 1)), nil)
        }
        switch entry.state {
        // Its images cannot be had, and an operator pays for others.
        case .accepted where isNewReplay && request.acceptsDoubleCharge && request.isOfEndedTask:
            guard !isInDoubt else { return doubt(mayBeDuplicate: true) }
            return begin(mayBeDuplicate: true)
        case .accepted(let taskID):
            let prior = PriorSubmission.ended(
                .accepted(taskID: taskID, at: Timestamp(milliseconds: entry.changedAt)),
                attempts: entry.attempts,
                // A worker with another journal may have had the delivery in between, and the policy lets it submit.
                mayBeDuplicate: entry.mayBeDuplicate || request.mayBeSubmittedElsewhere && request.retriesUnfinished
            )
            return (prior, nil)
        case .begun(let other) where isAlive(other): return (.running, nil)
        case _ where request.isQuestion, .begun where goesOn, .retrying:
            guard !isInDoubt else { return doubt(mayBeDuplicate: true, earlier: entry.attempts) }
            // The copy that would have carried the count may never have been published.
            return begin(mayBeDuplicate: true, earlier: isNewReplay ? 0 : entry.attempts)
        case .begun, .failed, .refused:
            guard isNewReplay, request.acceptsDoubleCharge else {
                return (.ended(.unknown(.unfinished), attempts: entry.attempts), nil)
            }
            guard !isInDoubt else { return doubt(mayBeDuplicate: true) }
            return begin(mayBeDuplicate: true)
        }
    }

    /// Why the job failed, nil if it did not.
    private var failure: JobFailure? {
        switch state {
        case .failed(let failure), .refused(let failure): failure
        case .begun, .accepted, .retrying: nil
        }
    }

    /// Whether the delivery that was refused was acknowledged long enough ago that one which comes again is another.
    private func isRefusedAndGone(at now: Int64) -> Bool {
        guard case .refused = state else { return false }
        let (age, isTooLarge) = now.subtractingReportingOverflow(changedAt)
        return isTooLarge || age > Self.lostAcknowledgement
    }

    /// The entry after the delivery that a definite no was told to is acknowledged; nil if it holds anything else.
    package func afterAcknowledgement(now: Int64) -> JournalEntry? {
        guard case .failed(let failure) = state, failure.charged == .no else { return nil }
        var entry = self
        entry.state = .refused(failure)
        entry.changedAt = now
        return entry
    }

    /// The entry after the end of its submission, nil if nothing needs to be remembered.
    package func after(_ end: JobEnd, now: Int64) -> JournalEntry? {
        var entry = self
        entry.changedAt = now
        switch end.verdict {
        case .retry, .givenBack:
            guard !end.mayBeDuplicate else {
                entry.state = .retrying
                entry.attempts = end.attempts
                break
            }
            // What an earlier submission may have cost is not undone by one that did not take place.
            guard mayBeDuplicate else { return nil }
            entry.state = .retrying
            entry.attempts = max(0, attempts - 1)
        case .accepted(let taskID, let at):
            entry.state = .accepted(taskID: taskID)
            // Never later than it was written, whatever a record says.
            entry.changedAt = min(max(0, at?.milliseconds ?? now), now)
        case .refused(let failure), .unknown(let failure): entry.state = .failed(failure)
        }
        return entry
    }

    /// Whether the job has an end.
    package var isFinished: Bool {
        if case .begun = state { return false }
        return true
    }
}
