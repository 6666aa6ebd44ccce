package import RabbitMQ
import SharedValues

/// The service's queues, all named after the job queue `Q`.
package struct JobQueues: Hashable, Sendable {
    /// `Q`: jobs.
    package let jobs: ByteString
    /// `Q.undelivered`: jobs that the broker took out of `Q`.
    package let undelivered: ByteString
    /// `Q.results`: replies to jobs that name no usable `reply_to`.
    package let results: ByteString
    /// `Q.dlq`: failed jobs.
    package let deadLetters: ByteString
    /// `Q.unknown`: jobs that may or may not have been accepted and charged.
    package let unknown: ByteString
    /// `Q.ledger`: the stream in which the replicas share what they know.
    package let ledger: ByteString
    /// `Q.retry.D`: where a retry waits, by rising delay.
    package let retries: [RetryQueue]

    /// `Q.follow`: tasks to be looked at now.
    package let follow: ByteString
    /// `Q.follow.D`: where a task waits for the next look, by rising delay.
    package let followWaits: [RetryQueue]

    /// A queue in which a job waits for its next attempt.
    package struct RetryQueue: Hashable, Sendable {
        /// `Q.retry.D`.
        package let name: ByteString
        /// How long it waits.
        package let delay: Duration
    }

    /// The queues for the job queue `name` and the given delays; at least one delay.
    package init(name: String, retryDelays: [Duration], followDelays: [Duration] = []) {
        jobs = ByteString(name)
        undelivered = ByteString("\(name).undelivered")
        results = ByteString("\(name).results")
        deadLetters = ByteString("\(name).dlq")
        unknown = ByteString("\(name).unknown")
        ledger = ByteString("\(name).ledger")
        follow = ByteString("\(name).follow")
        func waits(_ kind: String, _ delays: [Duration]) -> [RetryQueue] {
            Set(delays).sorted()
                .map { delay in
                    RetryQueue(name: ByteString("\(name).\(kind).\(DurationText.text(delay))"), delay: delay)
                }
        }
        retries = waits("retry", retryDelays)
        followWaits = waits("follow", followDelays)
    }

    /// The shortest wait of at least that long, nil if none is long enough.
    package func retryQueue(for wait: Duration) -> RetryQueue? {
        retries.first { $0.delay >= wait }
    }

    /// Whether a producer must not name the queue for its reply: `Q` and `Q.…`, but for `Q.results`.
    package func isOwn(_ queue: ByteString) -> Bool {
        guard queue != results else { return false }
        guard queue.bytes.starts(with: jobs.bytes) else { return false }
        let rest = queue.bytes.dropFirst(jobs.bytes.count)
        return rest.isEmpty || rest.first == UInt8(ascii: ".")
    }
}
