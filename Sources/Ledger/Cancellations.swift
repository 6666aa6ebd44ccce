import EditJob
import Journal

/// The jobs that an operator does not want to be submitted; part of the fold, see `LedgerState`.
///
/// An order stands until a job that has met it is replayed, or until it is lifted.
struct Cancellations: Hashable, Sendable {
    private struct Order: Hashable, Sendable {
        let writer: String
        let reason: String
        /// In milliseconds since 1970.
        let at: Int64
        let offset: Int64
        /// The latest replay that was refused for it; nil before a job has met it.
        var replay: Int64?
    }

    private var orders: [String: Order] = [:]

    mutating func cancel(_ id: String, _ reason: String, by message: LedgerMessage, at offset: Int64) {
        orders[id] = Order(writer: message.writer, reason: reason, at: message.at, offset: offset)
    }

    mutating func lift(_ id: String) { orders[id] = nil }

    /// Whether an order stands that holds for any job of that id.
    func contains(_ id: String) -> Bool { orders[id] != nil }

    /// What becomes of a job that would get the answer `prior` without these orders; nil if none stands against it.
    func verdict(on request: JournalRequest, insteadOf prior: PriorSubmission, isNew: Bool) -> PriorSubmission? {
        guard let order = orders[request.id], request.replay <= order.replay ?? .max else { return nil }
        func ended(_ charged: JobFailure.Charge, _ attempts: Int, _ mayBeDuplicate: Bool) -> PriorSubmission {
            let failure = JobFailure.cancelled(by: order.writer, reason: order.reason, charged: charged)
            return .ended(Verdict(failure), attempts: attempts, mayBeDuplicate: mayBeDuplicate)
        }
        switch prior {
        case .never: return ended(.no, max(0, request.attempts - 1), false)
        case .possible(let attempts): return ended(.maybe, max(request.attempts - 1, attempts), true)
        // In doubt, and nobody has been told so.
        case .ended(.unknown, let attempts, let mayBeDuplicate) where isNew:
            return ended(.maybe, attempts, mayBeDuplicate)
        case .running, .withdrawn, .ended: return nil
        }
    }

    /// Notes that a job was refused, or that it has begun in spite of an earlier order.
    mutating func met(_ request: JournalRequest, isRefused: Bool) {
        guard let order = orders[request.id] else { return }
        orders[request.id] = nil
        guard isRefused else { return }
        orders[request.id] = order
        orders[request.id]?.replay = max(order.replay ?? 0, request.replay)
    }

    mutating func sweep(first: Int64, oldest: Int64) {
        guard orders.contains(where: { $0.value.offset < first && $0.value.at < oldest }) else { return }
        orders = orders.filter { $0.value.offset >= first || $0.value.at >= oldest }
    }
}
