/// A queue to be declared, with its arguments.
package struct QueueDeclaration: Hashable, Sendable {
    package var name: ByteString
    /// Whether it survives a restart of the broker.
    package var durable: Bool
    /// Whether it belongs to one connection and ends with it.
    package var exclusive: Bool
    /// Whether it ends with its last consumer.
    package var autoDelete: Bool
    /// The `x-` arguments.
    package var arguments: FieldTable

    /// A durable queue by default.
    package init(
        name: ByteString,
        durable: Bool = true,
        exclusive: Bool = false,
        autoDelete: Bool = false,
        arguments: FieldTable = [:]
    ) {
        self.name = name
        self.durable = durable
        self.exclusive = exclusive
        self.autoDelete = autoDelete
        self.arguments = arguments
    }
}

/// What the broker says of a queue as it is declared.
package struct QueueStatus: Hashable, Sendable {
    /// The name; the broker makes one up where the declaration had none.
    package let name: ByteString
    /// Messages ready for delivery.
    package let messageCount: UInt32
    /// Consumers of the queue.
    package let consumerCount: UInt32
}
