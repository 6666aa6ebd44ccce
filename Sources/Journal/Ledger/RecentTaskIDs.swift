import DequeModule

/// The task ids that were accepted last: a job that comes again mostly comes soon, and reading its record from the stream
/// takes the broker 5 to 28 ms.
struct RecentTaskIDs: Sendable {
    private static let most = 4096

    private var byJob: [String: (taskID: String, offset: Int64)] = [:]
    private var order: Deque<(id: String, offset: Int64)> = []

    /// Keeps the task ids that a message tells, and forgets the oldest.
    mutating func read(_ message: LedgerMessage, at offset: Int64) {
        for record in message.records {
            guard case .end(let id, .accepted(let taskID)) = record else { continue }
            byJob[id] = (taskID, offset)
            order.append((id, offset))
            guard order.count > Self.most, let oldest = order.popFirst() else { continue }
            if byJob[oldest.id]?.offset == oldest.offset { byJob[oldest.id] = nil }
        }
    }

    /// The task id of a job whose record stands at an offset.
    func taskID(of id: String, at offset: Int64) -> String? {
        byJob[id].flatMap { $0.offset == offset ? $0.taskID : nil }
    }
}
