import NIOConcurrencyHelpers

/// Where the pipeline meets the journal: copies of a job that this process is submitting just now wait for its verdict.
package final class JournalDesk: Sendable {
    private let journal: any SubmissionJournal
    private let waiting = NIOLockedValueBox<[String: [CheckedContinuation<Void, Never>]]>([:])

    /// A desk for a journal.
    package init(_ journal: any SubmissionJournal) {
        self.journal = journal
    }

    /// As the journal's `begin`; waits while this process is submitting the same job.
    ///
    /// `inFlight` is then the answer only where another process is.
    package func begin(_ request: JournalRequest) async throws(JournalFault) -> JournalAnswer {
        while true {
            let isFirst = await enterOrWait(request.id)
            guard isFirst else { continue }
            let answer: JournalAnswer
            do throws(JournalFault) {
                answer = try await journal.begin(request)
            } catch {
                leave(request.id)
                throw error
            }
            // Who submits keeps the place until `finish`.
            if case .begun = answer { return answer }
            leave(request.id)
            return answer
        }
    }

    /// As the journal's `finish`; the copies that wait go on.
    package func finish(_ id: String, _ verdict: JournalVerdict) async throws(JournalFault) {
        defer { leave(id) }
        try await journal.finish(id, verdict)
    }

    /// True where nobody of this process was at it; otherwise false, after somebody has left.
    private func enterOrWait(_ id: String) async -> Bool {
        let entered = waiting.withLockedValue { waiting in
            guard waiting[id] == nil else { return false }
            waiting[id] = []
            return true
        }
        if entered { return true }
        await withCheckedContinuation { continuation in
            let isGone = waiting.withLockedValue { waiting in
                guard waiting[id] != nil else { return true }
                waiting[id]?.append(continuation)
                return false
            }
            if isGone { continuation.resume() }
        }
        return false
    }

    private func leave(_ id: String) {
        let waiters = waiting.withLockedValue { $0.removeValue(forKey: id) } ?? []
        for waiter in waiters { waiter.resume() }
    }
}
