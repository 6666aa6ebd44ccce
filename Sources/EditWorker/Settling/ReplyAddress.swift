package import RabbitMQ
package import SharedValues

/// Decides where the reply to a job goes.
package struct ReplyAddress: Sendable {
    /// Where a reply goes.
    package enum Route: Hashable, Sendable {
        /// To the queue that the job names.
        case queue(ByteString)
        /// To the requester that waits at the other end of a pseudo-queue.
        case direct(ByteString)
        /// To `Q.results`, since the job names no queue.
        case results
        /// To `Q.results`, since the job names a queue that it may not.
        case refused(ByteString)
    }

    private let queues: JobQueues
    private let allowed: [WildcardPattern]

    /// Allows the queues that match one of the patterns.
    package init(queues: JobQueues, allowed: [WildcardPattern]) {
        self.queues = queues
        self.allowed = allowed
    }

    /// Whether it is a pseudo-queue that a requester waits at.
    package static func isDirect(_ replyTo: ByteString) -> Bool {
        replyTo.bytes.starts(with: "amq.rabbitmq.reply-to.".utf8)
    }

    /// The route for a `reply_to`.
    package func route(_ replyTo: ByteString?) -> Route {
        guard let replyTo, !replyTo.isEmpty else { return .results }
        // Source: RabbitMQ's "Direct Reply-to".
        if Self.isDirect(replyTo) { return .direct(replyTo) }
        guard !queues.isOwn(replyTo), allowed.contains(where: { $0.matchesAll || $0.matches(replyTo.text) }) else {
            return .refused(replyTo)
        }
        return .queue(replyTo)
    }
}
