package import RabbitMQ

/// Why the broker has taken a message out of a queue, as its newest `x-death` says.
///
/// Source: RabbitMQ's "Dead Letter Exchanges", "Effects of Dead-Lettering".
package struct BrokerDeath: Hashable, Sendable {
    /// `expired`, `delivery_limit`, `rejected` or `maxlen`.
    package let reason: String
    /// Seconds since 1970; nil if the broker does not say.
    package let time: UInt64?
    /// Where the message had been published to.
    package let exchange: ByteString?
    package let routingKey: ByteString?
    /// The message's `expiration`, which the broker has taken off.
    package let expiration: ByteString?

    /// Nil if the broker says nothing.
    package init?(_ headers: FieldTable?) {
        guard case .array(let deaths)? = headers?["x-death"], case .table(let newest)? = deaths.first,
            let reason = newest["reason"]?.text
        else { return nil }
        self.reason = reason
        time = if case .timestamp(let seconds)? = newest["time"] { seconds } else { nil }
        exchange = newest["exchange"]?.text.map { ByteString($0) }
        let keys: [FieldValue] = if case .array(let keys)? = newest["routing-keys"] { keys } else { [] }
        routingKey = keys.first?.text.map { ByteString($0) }
        expiration = newest["original-expiration"]?.text.map { ByteString($0) }
    }
}
