/// Tells the broker what became of deliveries: the connection that they came from, or a test's stand-in for it.
///
/// From any thread, without waiting.
package protocol Acknowledger: AnyObject, Sendable {
    /// Whether deliveries of it are still the receiver's; once the connection is gone the broker gives them to others.
    var isLive: Bool { get }
    /// Acknowledges a delivery; false if the connection is gone, and the broker delivers it again.
    func acknowledge(_ tag: DeliveryTag) -> Bool
    /// Puts a delivery back into its queue, or without `requeue` lets the broker dead-letter it; false as above.
    func reject(_ tag: DeliveryTag, requeue: Bool) -> Bool
}

extension AMQPConnection: Acknowledger {
    package nonisolated var isLive: Bool { isOpen }

    /// Acknowledges a delivery, soon and together with others.
    ///
    /// False if the tag is of another connection or this one has ended: the broker delivers it again, and an
    /// acknowledgement would hit another delivery.
    @discardableResult
    package nonisolated func acknowledge(_ tag: DeliveryTag) -> Bool {
        tag.epoch == epoch && post(.acknowledge(tag.number))
    }

    @discardableResult
    package nonisolated func reject(_ tag: DeliveryTag, requeue: Bool) -> Bool {
        tag.epoch == epoch && post(.reject(tag.number, requeue: requeue))
    }
}

extension Delivery {
    /// Whether it is still the receiver's.
    package var isLive: Bool { acknowledger?.isLive ?? true }

    /// Acknowledges it; false if its connection is gone, and the broker delivers it again.
    package func acknowledge() -> Bool { acknowledger?.acknowledge(tag) ?? true }

    /// Puts it back into its queue.
    package func putBack() { _ = acknowledger?.reject(tag, requeue: true) }

    /// Lets the broker dead-letter it.
    package func deadLetter() { _ = acknowledger?.reject(tag, requeue: false) }
}
