import RabbitMQ

/// The nodes of a cluster, tried in turn: one that could not be reached is left out for a while if there are others.
///
/// A node that is cut off costs the whole time for connecting, at each turn.
struct NodeRotation: Sendable {
    /// A node that could not be reached is passed over for this long.
    private static let pause = Duration.seconds(30)

    private let urls: [AMQPURL]
    private var next = 0
    private var failedAt: [AMQPURL: ContinuousClock.Instant] = [:]
    /// When a node was left because it did not answer.
    private var leftAt: [AMQPURL: ContinuousClock.Instant] = [:]
    /// Where the next attempt goes; nil for the next node in turn.
    private var preferred: AMQPURL?

    init(_ urls: [AMQPURL]) { self.urls = urls }

    /// Whether the next attempt has its node already.
    var hasPreference: Bool { preferred != nil }

    /// The next attempt goes to that node if it is one of these, and otherwise to the next in turn.
    ///
    /// False, and no change, if it was left lately: a frozen node takes connections too. That it could not be reached
    /// before is old news.
    mutating func prefer(_ url: AMQPURL, at now: ContinuousClock.Instant) -> Bool {
        guard !isRecent(leftAt[url], now) else { return false }
        preferred = urls.contains(url) ? url : urls[next]
        return true
    }

    mutating func forgetPreference() { preferred = nil }

    private func isRecent(_ moment: ContinuousClock.Instant?, _ now: ContinuousClock.Instant) -> Bool {
        moment.map { now - $0 <= Self.pause } ?? false
    }

    private func isPassedOver(_ url: AMQPURL, at now: ContinuousClock.Instant) -> Bool {
        isRecent(failedAt[url], now) || isRecent(leftAt[url], now)
    }

    /// Whether a node could not be reached when it was tried last, and another one could.
    func hasBetter(than url: AMQPURL) -> Bool { failedAt[url] != nil && urls.contains { failedAt[$0] == nil } }

    /// The node of the next attempt.
    mutating func take(at now: ContinuousClock.Instant) -> AMQPURL {
        let turn = urls.indices.map { (next + $0) % urls.count }
        let place =
            preferred.flatMap { urls.firstIndex(of: $0) } ?? turn.first { !isPassedOver(urls[$0], at: now) } ?? next
        preferred = nil
        next = (place + 1) % urls.count
        return urls[place]
    }

    /// A node could be reached, or not.
    mutating func note(_ url: AMQPURL, isReached: Bool, at now: ContinuousClock.Instant) {
        failedAt[url] = isReached ? nil : now
    }

    /// A node does not answer, though it can be reached.
    mutating func leave(_ url: AMQPURL, at now: ContinuousClock.Instant) {
        leftAt[url] = now
    }
}
