import DequeModule

/// The messages that this replica has published and not read back yet: one that comes back with the same bytes need not be
/// parsed.
///
/// Parsing them took a sixth of a job's instructions if one replica wrote everything.
struct OwnMessages: Sendable {
    private struct Sent: Sendable {
        let number: Int64
        let bytes: [UInt8]
        /// What parsing the bytes would give, if that is known.
        let asRead: LedgerMessage?
        let publishedAt: ContinuousClock.Instant
    }

    /// One or two, since the next one is published when the last one is confirmed.
    private var sent: Deque<Sent> = []

    /// A message is about to be published.
    mutating func publishing(_ message: LedgerMessage, as bytes: [UInt8]) {
        sent.append(Sent(number: message.number, bytes: bytes, asRead: message.asRead, publishedAt: .now))
    }

    /// The message that was published as these bytes; nil if they have to be parsed.
    func message(publishedAs bytes: [UInt8]) -> LedgerMessage? {
        sent.first { $0.bytes == bytes }?.asRead
    }

    /// When a message was published that has not come back yet.
    func publishedAt(_ number: Int64) -> ContinuousClock.Instant? {
        sent.first { $0.number == number }?.publishedAt
    }

    /// A message has come back; the ones before it never will.
    mutating func cameBack(_ number: Int64) {
        sent.removeAll { $0.number <= number }
    }
}
