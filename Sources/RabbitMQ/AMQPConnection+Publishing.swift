// Publishing on a connection: confirms, returns, and the time in which the broker blocks.

/// A message on its way, and who waits for what the broker says of it.
///
/// A class, because it goes through several hands: a copy of the message counts a reference for each of its texts.
final class Publishing: Sendable {
    let message: OutboundMessage
    let resume: @Sendable (Result<PublishResult, AMQPError>) -> Void

    init(_ message: OutboundMessage, _ resume: @escaping @Sendable (Result<PublishResult, AMQPError>) -> Void) {
        self.message = message
        self.resume = resume
    }
}

/// What a connection knows of the messages that it has published.
struct PublishingState {
    struct Pending {
        let publishing: Publishing
        let deadline: ContinuousClock.Instant
        var returned: PublishResult?
    }

    var confirms = ConfirmLedger<Pending>()
    var isBlocked = false
    /// Publishes that wait for the broker to read again, in their order.
    var held: [AMQPConnection.Command] = []
    /// When the broker last began to read again: no confirm is late before its time from then on.
    var unblockedAt = ContinuousClock.now
    var selectsConfirms = false
}

extension AMQPConnection {
    /// The role that publishes: its channel confirms from here on.
    package func makePublisher() throws(AMQPError) -> Publisher {
        if !publishing.selectsConfirms {
            try onSocket { socket throws(AMQPError) in try socket.selectConfirms() }
            publishing.selectsConfirms = true
        }
        return Publisher(self, frameMax: frameMax)
    }

    static let tooLargeError = AMQPError(
        .tooLarge,
        "a message's properties and headers do not fit the connection's frame, or a name is longer than 255 bytes"
    )

    func send(_ publishing: Publishing) throws(AMQPError) {
        let message = publishing.message
        // Before anything is written: half a message would end the connection, and all others with it.
        guard message.properties.fits(frameMax: frameMax), message.routingKey.bytes.count <= 255 else {
            publishing.resume(.failure(Self.tooLargeError))
            return
        }
        self.publishing.confirms.append(.init(publishing: publishing, deadline: .now + options.confirmTimeout))
        try socket?.publish(message)
    }

    func confirmed(_ number: UInt64, multiple: Bool) {
        for pending in publishing.confirms.settle(number, multiple: multiple) {
            pending.publishing.resume(.success(pending.returned ?? .confirmed))
        }
    }

    func refused(_ number: UInt64, multiple: Bool) {
        for pending in publishing.confirms.settle(number, multiple: multiple) {
            pending.publishing.resume(.success(.refused))
        }
    }

    /// A return has no number.
    ///
    /// It comes before its message's confirm and in the order of publishing, so it belongs to
    /// the oldest unanswered message that looks the same.
    func returned(_ message: OutboundMessage, _ result: PublishResult) {
        _ = publishing.confirms.updateFirst { pending in
            let sent = pending.publishing.message
            return pending.returned == nil && sent.mandatory && sent.routingKey == message.routingKey
                && sent.exchange == message.exchange && sent.properties.messageID == message.properties.messageID
                && sent.body == message.body
        } _: { pending in
            pending.returned = result
        }
    }

    func checkDeadlines() throws(AMQPError) {
        guard !publishing.isBlocked, let due = nextDeadline, due <= .now else { return }
        throw AMQPError(.timedOut, "the broker did not confirm a message within \(options.confirmTimeout)")
    }

    /// When the oldest message without an answer is given up; the time in which the broker blocks does not count.
    var nextDeadline: ContinuousClock.Instant? {
        publishing.confirms.oldest.map { max($0.deadline, publishing.unblockedAt + options.confirmTimeout) }
    }

    func endPublishing(_ commands: [Command], _ error: AMQPError) {
        Self.fail((publishing.held + commands)[...], with: error)
        publishing.held = []
        for pending in publishing.confirms.settleAll() { pending.publishing.resume(.failure(error)) }
    }

    static func fail(_ commands: ArraySlice<Command>, with error: AMQPError) {
        for case .publish(let publishing) in commands { publishing.resume(.failure(error)) }
    }
}
