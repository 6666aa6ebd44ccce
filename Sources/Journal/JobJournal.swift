package import EditJob
import NIOConcurrencyHelpers
import SharedValues

/// The journal as the pipeline uses it: copies of a job that this process is submitting just now wait for its end, and an
/// end that the store did not take is kept until it does.
package final class JobJournal: Sendable {
    struct State {
        /// The jobs that are being submitted, with the copies that wait for each.
        var places: [String: Place] = [:]
        /// Ends that the store does not have yet: its entries still say that the jobs are under way.
        var unwritten: [String: JobEnd] = [:]
    }

    struct Place {
        let request: JournalRequest
        /// Nil until a copy has waited, as for nearly every job.
        var waiters: Waiters<Ended?>?
    }

    /// How a job left its place.
    struct Ended {
        let request: JournalRequest
        let end: JobEnd?
    }

    private let journal: any SubmissionJournal
    private let onUnwritten: @Sendable (_ id: String, _ fault: JournalFault) -> Void
    let state = NIOLockedValueBox(State())

    /// Over a store; `onUnwritten` hears of each end that the store did not take.
    package init(
        _ journal: any SubmissionJournal,
        onUnwritten: @escaping @Sendable (_ id: String, _ fault: JournalFault) -> Void = { _, _ in }
    ) {
        self.journal = journal
        self.onUnwritten = onUnwritten
    }

    /// Runs one submission between its beginning and its verdict in the journal.
    ///
    /// `submit` gets what is known of earlier submissions, and may submit only if that allows it; then the end that it returns
    /// is written, and if it throws the job is released, or left to be submitted again if it has the mark. Throws
    /// `JournalFault` if the journal lets no job begin, without having called `submit`, and otherwise what `submit` throws.
    package func recording<Result>(
        _ request: JournalRequest,
        _ submit: (PriorSubmission) async throws -> (Result, JobEnd)
    ) async throws -> Result {
        guard !request.isAnonymous else { return try await submit(Self.priorToAnonymous(request)).0 }
        let prior = try await begin(request)
        guard prior.allowsSubmission else { return try await submit(prior).0 }
        do {
            let (result, end) = try await submit(prior)
            await finish(request.id, end)
            return result
        } catch {
            var end = JobEnd.released
            if case .possible(let earlier) = prior { end = .retrying(attempts: max(request.attempts - 1, earlier)) }
            await finish(request.id, end)
            throw error
        }
    }

    /// What is known of earlier submissions of a job that is not to be submitted; neither it nor an earlier delivery of it begins
    /// any more.
    package func prior(to request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        var question = request
        question.isQuestion = true
        guard !request.isAnonymous else { return Self.priorToAnonymous(question) }
        if hasKept { try await writeKept() }
        return try await journal.begin(question)
    }

    private static func priorToAnonymous(_ request: JournalRequest) -> PriorSubmission {
        JournalEntry.prior(to: request, given: nil, by: "", now: 0, isAlive: { _ in false }).prior
    }

    /// Whether a delivery may have been submitted by a worker of which the store knows nothing; to be asked when it comes.
    package func mark(wasDeliveredBefore: Bool, awaitsVerdict: Bool) -> DeliveryMark {
        journal.mark(wasDeliveredBefore: wasDeliveredBefore, awaitsVerdict: awaitsVerdict)
    }

    /// See `SubmissionJournal.doubt`.
    package func doubt() -> DeliveryMark { journal.doubt() }

    /// Whether a job may still be submitted; to be asked right before the request is sent.
    package func maySubmit(_ request: JournalRequest) -> Bool {
        journal.maySubmit(request.isAnonymous ? nil : request.id)
    }

    /// Whether an operator has cancelled a job.
    package func isCancelled(_ request: JournalRequest) -> Bool {
        !request.isAnonymous && journal.isCancelled(request.id)
    }

    /// Whether an acceptance is to be told by the worker whose delivery of the job is gone.
    package func mayTellLate(_ id: String) -> Bool { journal.mayTellLate(id) }

    /// Notes that the delivery which a job was refused with is acknowledged.
    package func acknowledged(_ id: String) async {
        // Without the note a later publication of the job may be told the same refusal, no more.
        try? await journal.acknowledged(id)
    }

    // MARK: - Waiting for the store, and for others

    /// As the journal's `begin`; waits while this process is submitting the same job, and takes a definite no from there.
    ///
    /// `running` is the answer only if another process is at it.
    private func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        while !takePlace(request), let ended = await waitForPlace(request) {
            // An acceptance or a doubt stands in the journal; a definite no does not bind a new job, but binds this one.
            guard case .refused? = ended.end?.verdict, let verdict = ended.end?.verdict,
                ended.request.digest == request.digest
            else { continue }
            return .ended(verdict, attempts: ended.request.attempts)
        }
        do throws(JournalFault) {
            if hasKept { try await writeKept() }
            let prior = try await journal.begin(request)
            // Who submits keeps the place until `finish`.
            if !prior.allowsSubmission { leave(request.id, nil) }
            return prior
        } catch {
            leave(request.id, nil)
            throw error
        }
    }

    /// As the journal's `finish`; the copies that wait go on.
    ///
    /// If the store fails the end is kept here, and nothing begins before the store has it.
    private func finish(_ id: String, _ end: JobEnd) async {
        do throws(JournalFault) {
            try await journal.finish(id, end)
            leave(id, end)
        } catch {
            state.withLockedValue { $0.unwritten[id] = end }
            leave(id, end)
            onUnwritten(id, error)
        }
    }

    private var hasKept: Bool { state.withLockedValue { !$0.unwritten.isEmpty } }

    private func writeKept() async throws(JournalFault) {
        // Taken out first: two that write the same end could meet a new beginning between them.
        while let (id, end) = state.withLockedValue({ $0.unwritten.popFirst() }) {
            do throws(JournalFault) {
                try await journal.finish(id, end)
            } catch {
                state.withLockedValue { $0.unwritten[id] = end }
                throw error
            }
        }
    }

    /// Takes the job's place; false if another copy has it.
    private func takePlace(_ request: JournalRequest) -> Bool {
        state.withLockedValue { state in
            guard state.places[request.id] == nil else { return false }
            state.places[request.id] = Place(request: request)
            return true
        }
    }

    /// Nil once the place is this job's; otherwise how the one before has left it.
    private func waitForPlace(_ request: JournalRequest) async -> Ended? {
        await withCheckedContinuation { continuation in
            let isMine = state.withLockedValue { state in
                guard var place = state.places.removeValue(forKey: request.id) else {
                    state.places[request.id] = Place(request: request)
                    return true
                }
                var waiters = place.waiters ?? Waiters()
                let ticket = waiters.ticket()
                waiters.add(continuation, as: ticket)
                place.waiters = waiters
                state.places[request.id] = place
                return false
            }
            if isMine { continuation.resume(returning: nil) }
        }
    }

    private func leave(_ id: String, _ end: JobEnd?) {
        guard var place = state.withLockedValue({ $0.places.removeValue(forKey: id) }) else { return }
        for waiter in place.waiters?.removeAll() ?? [] {
            waiter.resume(returning: Ended(request: place.request, end: end))
        }
    }
}
