import EditJob
package import Journal

/// A job in an order to cancel.
package struct CancelledJob: Hashable, Sendable {
    package let id: String
    /// The latest replay that is meant; nil if that is not known, until a job has met the order.
    ///
    /// A later one is another decision.
    package var replay: Int64?
    /// What may be submitted under the id all the same.
    package var allowed: BodyDigest?

    package init(id: String, replay: Int64? = nil, allowed: BodyDigest? = nil) {
        self.id = id
        self.replay = replay
        self.allowed = allowed
    }
}

/// The jobs that an operator does not want to be submitted; part of the fold, see `LedgerState`.
///
/// An order stands until a job that has met it is replayed, or one that it was lifted for has begun.
struct Cancellations: Hashable, Sendable {
    private struct Order: Hashable, Sendable {
        var job: CancelledJob
        let message: LedgerMessage.ID
        let writer: String
        let reason: String
        /// In milliseconds since 1970.
        let at: Int64
        let offset: Int64
    }

    private var orders: [String: Order] = [:]

    mutating func cancel(_ job: CancelledJob, _ reason: String, by message: LedgerMessage, at offset: Int64) {
        orders[job.id] = Order(
            job: job,
            message: message.id,
            writer: message.writer,
            reason: reason,
            at: message.at,
            offset: offset
        )
    }

    /// Lets a job be submitted, but no other one of its id: those may still be what was to be cancelled.
    mutating func lift(_ id: String, for digest: BodyDigest) { orders[id]?.job.allowed = digest }

    /// What an order was about has its end.
    mutating func forget(_ id: String) { orders[id] = nil }

    /// Whether an order stands that holds for some job of that id.
    func contains(_ id: String) -> Bool { orders[id] != nil }

    private func stands(against request: JournalRequest) -> Order? {
        guard let order = orders[request.id], request.replay <= order.job.replay ?? .max,
            request.digest != order.job.allowed
        else { return nil }
        return order
    }

    /// What becomes of a job that would get the answer `prior` without these orders; nil if none stands against it.
    func verdict(on request: JournalRequest, insteadOf prior: PriorSubmission, isNew: Bool) -> PriorSubmission? {
        guard let order = stands(against: request) else { return nil }
        func ended(_ charged: JobFailure.Charge, _ attempts: Int, _ mayBeDuplicate: Bool) -> PriorSubmission {
            let failure = JobFailure.cancelled(by: order.writer, reason: order.reason, charged: charged)
            return .ended(Verdict(failure), attempts: attempts, mayBeDuplicate: mayBeDuplicate)
        }
        switch prior {
        case .never: return ended(.no, max(0, request.attempts - 1), false)
        case .possible(let attempts): return ended(.maybe, max(request.attempts - 1, attempts), true)
        // In doubt, and no one was told yet.
        case .ended(.unknown, let attempts, let mayBeDuplicate) where isNew:
            return ended(.maybe, attempts, mayBeDuplicate)
        case .running, .withdrawn, .ended: return nil
        }
    }

    /// Notes that a job of that replay has met its order.
    mutating func met(_ id: String, replay: Int64) {
        guard let job = orders[id]?.job else { return }
        orders[id]?.job.replay = max(job.replay ?? 0, replay)
    }

    /// Notes that a job has begun in spite of an order: a later replay ends it, and the others of its id are still not wanted if it
    /// is the one that the order was lifted for.
    mutating func begun(_ request: JournalRequest) {
        guard let order = orders[request.id], order.job.allowed != request.digest else { return }
        orders[request.id] = nil
    }

    mutating func sweep(first: Int64, oldest: Int64) {
        guard orders.contains(where: { $0.value.offset < first && $0.value.at < oldest }) else { return }
        orders = orders.filter { $0.value.offset >= first || $0.value.at >= oldest }
    }

    /// The messages that say what stands, to be written again if the stream loses them.
    var messages: [LedgerMessage] {
        Dictionary(grouping: orders.values) { $0.message }
            .sorted { ($0.key.replica, $0.key.number) < ($1.key.replica, $1.key.number) }
            .map { id, orders in
                let byReason = Dictionary(grouping: orders) { $0.reason }.sorted { $0.key < $1.key }
                return LedgerMessage(
                    replica: id.replica,
                    writer: orders[0].writer,
                    number: id.number,
                    at: orders[0].at,
                    records: byReason.map { reason, orders in
                        .cancel(orders.map(\.job).sorted { $0.id < $1.id }, reason: reason)
                    }
                )
            }
    }
}
