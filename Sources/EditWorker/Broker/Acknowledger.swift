package import AMQP

/// Tells the broker what became of deliveries: the connection that they came from, or a test's stand-in for it.
package protocol Acknowledger: Sendable {
    /// Whether a delivery is still the worker's; once the connection is gone the broker gives it to somebody else.
    var isLive: Bool { get }
    /// Acknowledges a delivery; false if the connection is gone, and the broker delivers it again.
    func acknowledge(_ tag: DeliveryTag) -> Bool
    /// Puts a delivery back into its queue.
    func putBack(_ tag: DeliveryTag)
    /// Lets the broker dead-letter a delivery.
    func deadLetter(_ tag: DeliveryTag)
}

extension AMQPConnection: Acknowledger {
    package nonisolated var isLive: Bool { isOpen }

    package nonisolated func putBack(_ tag: DeliveryTag) { reject(tag, requeue: true) }

    package nonisolated func deadLetter(_ tag: DeliveryTag) { reject(tag, requeue: false) }
}
