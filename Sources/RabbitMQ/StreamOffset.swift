/// Where the reading of a stream begins.
///
/// Source: RabbitMQ's "Streams", "Consuming", `x-stream-offset`.
package enum StreamOffset: Hashable, Sendable {
    /// The oldest message that is kept.
    case first
    /// The last piece that was written, of one message or several.
    case last
    /// What comes from now on.
    case next
    /// The message with that number, or the first after it.
    case at(Int64)
    /// What was written at that time, in seconds since 1970, and perhaps a little before.
    case time(UInt64)

    /// The argument of `AMQPConnection.consume`.
    package var arguments: FieldTable {
        let value: FieldValue =
            switch self {
            case .first: .text("first")
            case .last: .text("last")
            case .next: .text("next")
            case .at(let offset): .int64(offset)
            case .time(let seconds): .timestamp(seconds)
            }
        return ["x-stream-offset": value]
    }
}

extension Delivery {
    /// The message's number in its stream; nil if it did not come from one.
    package var streamOffset: Int64? { properties.headers?["x-stream-offset"]?.integer }
}
