import DequeModule

/// The images that the fleet may still have submitted within a time: a sum over the submissions that were, or may have
/// been, accepted.
struct FleetBudget: Hashable, Sendable {
    private struct Spending: Hashable, Sendable {
        /// In milliseconds since 1970.
        let at: Int64
        let images: Int
    }

    let images: Int
    /// In milliseconds.
    let period: Int64
    private var running: [String: Spending] = [:]
    /// Ended, nearly in the order of their beginning.
    private var spent: Deque<Spending> = []
    private var sum = 0

    init(images: Int, period: Int64) {
        self.images = images
        self.period = period
    }

    /// Images that count at a moment, in milliseconds since 1970.
    func used(at now: Int64) -> Int {
        let old = spent.lazy.prefix { now - $0.at >= period }.reduce(0) { $0 + $1.images }
        return sum - old + running.values.reduce(0) { now - $1.at < period ? $0 + $1.images : $0 }
    }

    mutating func begin(_ id: String, _ images: Int, at now: Int64) {
        // One that was abandoned may have been accepted.
        end(id, isFree: false)
        running = running.filter { now - $0.value.at < period }
        running[id] = Spending(at: now, images: images)
        while let first = spent.first, now - first.at >= period {
            sum -= first.images
            spent.removeFirst()
        }
    }

    /// The date was found to be another one.
    mutating func follow(_ move: FleetClock.Move) {
        running = running.mapValues { Spending(at: move.applied(to: $0.at), images: $0.images) }
        spent = Deque(spent.map { Spending(at: move.applied(to: $0.at), images: $0.images) })
    }

    /// A definite no gives the images back.
    mutating func end(_ id: String, isFree: Bool) {
        guard let ended = running.removeValue(forKey: id), !isFree else { return }
        spent.append(ended)
        sum += ended.images
    }
}
