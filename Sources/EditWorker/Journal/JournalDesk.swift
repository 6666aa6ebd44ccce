import EditJob
import NIOConcurrencyHelpers

/// Where the pipeline meets the journal: copies of a job that this process is submitting just now wait for its verdict,
/// and a verdict that the store did not take is kept until it does.
package final class JournalDesk: Sendable {
    private struct State {
        /// The jobs that are being submitted, with the copies that wait for each.
        var places: [String: Place] = [:]
        /// Verdicts that the store does not have yet: its entries still say that the jobs are under way.
        var unwritten: [String: JournalVerdict] = [:]
    }

    private struct Place {
        let request: JournalRequest
        var waiters: [CheckedContinuation<Ended?, Never>] = []
    }

    /// How somebody left their place.
    private struct Ended {
        let request: JournalRequest
        let verdict: JournalVerdict?
    }

    private let journal: any SubmissionJournal
    /// The journal where it makes nobody wait.
    private let immediate: (any ImmediateJournal)?
    private let state = NIOLockedValueBox(State())

    /// A desk for a journal.
    package init(_ journal: any SubmissionJournal) {
        self.journal = journal
        immediate = journal as? any ImmediateJournal
    }

    /// Copies that wait for the verdict on a job.
    package func waiting(for id: String) -> Int {
        state.withLockedValue { $0.places[id]?.waiters.count ?? 0 }
    }

    /// As `begin` where there is nothing to wait for, nil where there is: a step less for nearly every job.
    package func beginNow(_ request: JournalRequest) -> JournalAnswer? {
        guard let immediate, !hasKept, takePlace(request) else { return nil }
        let answer = immediate.beginNow(request)
        if case .begun = answer { return answer }
        leave(request.id, nil)
        return answer
    }

    /// As `finish` where there is nothing to wait for; false where there is.
    package func finishNow(_ id: String, _ verdict: JournalVerdict) -> Bool {
        guard let immediate else { return false }
        immediate.finishNow(id, verdict)
        leave(id, verdict)
        return true
    }

    /// As the journal's `begin`; waits while this process is submitting the same job, and takes a definite no from there.
    ///
    /// `inFlight` is the answer only where another process is at it.
    package func begin(_ request: JournalRequest) async throws(JournalFault) -> JournalAnswer {
        while !takePlace(request), let ended = await waitForPlace(request) {
            // An acceptance or a doubt stands in the journal; a definite no does not bind a new job, but binds this one.
            guard case .failed(let failure) = ended.verdict, failure.charged == .no,
                ended.request.digest == request.digest
            else { continue }
            return .failed(failure, attempts: ended.request.attempts, mayBeDuplicate: false)
        }
        do throws(JournalFault) {
            if hasKept { try await writeKept() }
            let answer = try await journal.begin(request)
            // Who submits keeps the place until `finish`.
            if case .begun = answer { return answer }
            leave(request.id, nil)
            return answer
        } catch {
            leave(request.id, nil)
            throw error
        }
    }

    /// As the journal's `finish`; the copies that wait go on.
    ///
    /// Where the store fails the desk keeps the verdict, and lets nothing begin before the store has it.
    package func finish(_ id: String, _ verdict: JournalVerdict) async throws(JournalFault) {
        do throws(JournalFault) {
            try await journal.finish(id, verdict)
            leave(id, verdict)
        } catch {
            state.withLockedValue { $0.unwritten[id] = verdict }
            leave(id, verdict)
            throw error
        }
    }

    /// Notes that the delivery which a job was refused with is acknowledged.
    package func acknowledged(_ id: String) async {
        if let immediate { return immediate.acknowledgedNow(id) }
        // Without the note a later publication of the job may be told the same refusal, no more.
        try? await journal.acknowledged(id)
    }

    private var hasKept: Bool { state.withLockedValue { !$0.unwritten.isEmpty } }

    private func writeKept() async throws(JournalFault) {
        // Taken out first: two that write the same verdict could meet a new beginning between them.
        while let (id, verdict) = state.withLockedValue({ $0.unwritten.popFirst() }) {
            do throws(JournalFault) {
                try await journal.finish(id, verdict)
            } catch {
                state.withLockedValue { $0.unwritten[id] = verdict }
                throw error
            }
        }
    }

    /// Takes the job's place; false where somebody has it.
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
                guard state.places[request.id] != nil else {
                    state.places[request.id] = Place(request: request)
                    return true
                }
                state.places[request.id]?.waiters.append(continuation)
                return false
            }
            if isMine { continuation.resume(returning: nil) }
        }
    }

    private func leave(_ id: String, _ verdict: JournalVerdict?) {
        guard let place = state.withLockedValue({ $0.places.removeValue(forKey: id) }) else { return }
        for waiter in place.waiters { waiter.resume(returning: Ended(request: place.request, verdict: verdict)) }
    }
}
