import DequeModule

/// The jobs that the broker has taken out of their queue, as a replica has read it.
///
/// Whoever has such a job now has told how it ended. A worker that was given it before, and does not know that its delivery is
/// gone, must not begin it any more.
struct WithdrawnJobs: Hashable, Sendable {
    private struct Withdrawal: Hashable, Sendable {
        let id: String
        let reads: Int
        let at: ContinuousClock.Instant
    }

    /// Far longer than a lost connection goes unnoticed, which is two heartbeats.
    private static let longest = Duration.seconds(900)
    private static let most = 200_000

    /// By job, how many messages had been read with the last one that says so.
    private var reads: [String: Int] = [:]
    private var order: Deque<Withdrawal> = []
    /// The same for all jobs that had to be forgotten before their time.
    private var forgotten = 0

    /// Notes what the last of `reads` messages says.
    mutating func note(_ id: String, at reads: Int, _ now: ContinuousClock.Instant) {
        self.reads[id] = reads
        order.append(Withdrawal(id: id, reads: reads, at: now))
        while let oldest = order.first, order.count > Self.most || now - oldest.at > Self.longest {
            order.removeFirst()
            if order.count >= Self.most { forgotten = oldest.reads }
            if self.reads[oldest.id] == oldest.reads { self.reads[oldest.id] = nil }
        }
    }

    /// Whether a job was, or may have been, taken out of its queue after so many messages had been read.
    func contains(_ id: String, after reads: Int) -> Bool { max(self.reads[id] ?? 0, forgotten) > reads }
}
