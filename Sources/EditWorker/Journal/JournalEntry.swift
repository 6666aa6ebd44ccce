package import EditJob

/// What a journal holds of one job, and the rules by which it answers: the same for every store.
package struct JournalEntry: Hashable, Sendable {
    /// How far the job's submission got.
    package enum State: Hashable, Sendable {
        /// Under way, by that worker.
        case begun(owner: String)
        /// Accepted.
        case accepted(taskID: String)
        /// Failed, for certain or perhaps.
        ///
        /// Apart, because few entries are, and all would be as large.
        indirect case failed(JobFailure)
        /// Perhaps accepted, to be submitted again by itself.
        case retrying
    }

    /// The digest of what was submitted.
    package var digest: BodyDigest
    /// How far it got.
    package var state: State
    /// Counted submissions.
    package var attempts: Int
    /// The last replay that was let through; 0 for none.
    package var replay: Int64
    /// Whether a submission before the last may have been accepted.
    package var mayBeDuplicate: Bool
    /// When the entry last changed, in milliseconds since 1970.
    package var changedAt: Int64

    /// An entry.
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

    /// The answer to a request, and the entry to be written before the answer is given, if any.
    ///
    /// `isAlive` tells whether the worker that a begun entry names is still there.
    package static func answer(
        to request: JournalRequest,
        given entry: JournalEntry?,
        by owner: String,
        now: Int64,
        isAlive: (String) -> Bool
    ) -> (answer: JournalAnswer, write: JournalEntry?) {
        func begin(mayBeDuplicate: Bool, earlier: Int = 0) -> (JournalAnswer, JournalEntry?) {
            let begun = JournalEntry(
                digest: request.digest,
                state: .begun(owner: owner),
                attempts: max(request.attempts, earlier + 1),
                replay: max(request.replay, entry?.replay ?? 0),
                mayBeDuplicate: mayBeDuplicate,
                changedAt: now
            )
            return (.begun(mayBeDuplicate: mayBeDuplicate, earlier: earlier), begun)
        }
        guard let entry else { return begin(mayBeDuplicate: false) }
        // Each replay counts once: a replayed job that is delivered again is no new permission.
        let isNewReplay = request.replay > entry.replay
        if case .failed(let failure) = entry.state {
            let isSame = entry.digest == request.digest && request.takesVerdict && !isNewReplay
            if isSame {
                return (.failed(failure, attempts: entry.attempts, mayBeDuplicate: entry.mayBeDuplicate), nil)
            }
            // After a definite no it is a new job.
            if failure.charged == .no { return begin(mayBeDuplicate: false) }
        }
        guard entry.digest == request.digest else { return (.conflict, nil) }
        switch entry.state {
        case .accepted(let taskID):
            let answer = JournalAnswer.accepted(
                taskID: taskID,
                attempts: entry.attempts,
                mayBeDuplicate: entry.mayBeDuplicate
            )
            return (answer, nil)
        case .begun(let other) where isAlive(other): return (.inFlight, nil)
        case .begun where request.retriesUnfinished, .retrying:
            // The copy that would have carried the count may never have been published.
            return begin(mayBeDuplicate: true, earlier: isNewReplay ? 0 : entry.attempts)
        case .begun, .failed:
            guard isNewReplay, request.acceptsDoubleCharge else { return (.doubtful(attempts: entry.attempts), nil) }
            return begin(mayBeDuplicate: true)
        }
    }

    /// The entry after a verdict, nil where nothing needs to be remembered.
    package func after(_ verdict: JournalVerdict, now: Int64) -> JournalEntry? {
        var entry = self
        entry.changedAt = now
        switch verdict {
        case .released: return nil
        case .accepted(let taskID): entry.state = .accepted(taskID: taskID)
        case .failed(let failure): entry.state = .failed(failure)
        case .retrying: entry.state = .retrying
        }
        return entry
    }

    /// Whether nobody works on the job any more.
    package var isFinished: Bool {
        if case .begun = state { return false }
        return true
    }
}
