/// A durable exchange to be declared.
package struct ExchangeDeclaration: Hashable, Sendable {
    package var name: ByteString
    /// `direct`, `fanout`, `topic` or `headers`.
    package var kind: String

    package init(name: ByteString, kind: String = "direct") {
        self.name = name
        self.kind = kind
    }
}

/// Where an exchange brings the messages of a routing key.
package struct Binding: Hashable, Sendable {
    package var exchange: ByteString
    package var queue: ByteString
    package var routingKey: ByteString

    package init(exchange: ByteString, queue: ByteString, routingKey: ByteString) {
        self.exchange = exchange
        self.queue = queue
        self.routingKey = routingKey
    }
}
