import AMQP

/// The nodes of a cluster, tried in turn: one that could not be reached is left out for a while if there are others.
///
/// A node that is cut off costs the whole time for connecting, at each turn.
struct NodeRotation: Sendable {
    /// For so long a node that could not be reached is passed over.
    private static let pause = Duration.seconds(30)

    private let urls: [AMQPURL]
    private var next = 0
    private var failedAt: [AMQPURL: ContinuousClock.Instant] = [:]
    /// Where the next attempt goes; nil for the next node in turn.
    private var preferred: AMQPURL?

    init(_ urls: [AMQPURL]) { self.urls = urls }

    /// Whether the next attempt has its node already.
    var hasPreference: Bool { preferred != nil }

    mutating func prefer(_ url: AMQPURL?) { preferred = url }

    /// The node of the next attempt.
    mutating func take(at now: ContinuousClock.Instant) -> AMQPURL {
        if let preferred {
            self.preferred = nil
            return preferred
        }
        let turn = urls.indices.map { (next + $0) % urls.count }
        let place = turn.first { failedAt[urls[$0]].map { now - $0 > Self.pause } ?? true } ?? next
        next = (place + 1) % urls.count
        return urls[place]
    }

    /// A node could be reached, or not.
    mutating func note(_ url: AMQPURL, isReached: Bool, at now: ContinuousClock.Instant) {
        failedAt[url] = isReached ? nil : now
    }
}
