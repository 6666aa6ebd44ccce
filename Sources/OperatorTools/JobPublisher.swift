package import RabbitMQ

/// Publishes many jobs with confirms, enough at a time that the broker and not the round trip is the limit.
///
/// Confirms are told in the order of publishing. If it ends early, `settled` jobs are known to be answered, and of those
/// after them nothing is.
package final class JobPublisher<Job> {
    /// A job that the broker does not have.
    package enum Fault: Hashable, Sendable {
        /// There is no such queue.
        case noQueue
        /// The queue takes no more.
        case refused
    }

    /// Jobs that were answered, taken or not, in their order.
    package private(set) var settled = 0
    private let publisher: Publisher
    private let depth: Int
    private let onSettled: (Job, Fault?) throws -> Void
    private var inFlight: [(job: Job, confirm: PendingConfirm)] = []

    /// A publisher of jobs, with at most `depth` of them on their way.
    ///
    /// `onSettled` is told of each; what it throws ends the publishing.
    package init(
        _ publisher: Publisher,
        depth: Int = 1024,
        onSettled: @escaping (_ job: Job, _ fault: Fault?) throws -> Void
    ) {
        self.publisher = publisher
        self.depth = max(1, depth)
        self.onSettled = onSettled
    }

    /// Publishes a job; waits only if too many are on their way.
    ///
    /// Throws `AMQPError`, or what `onSettled` throws.
    package func publish(
        _ message: OutboundMessage,
        for job: Job,
        isolation: isolated (any Actor)? = #isolation
    ) async throws {
        inFlight.append((job, publisher.start(message)))
        if inFlight.count >= depth { try await settle((depth + 1) / 2) }
    }

    /// Waits until all are answered.
    ///
    /// Throws as `publish`.
    package func finish(isolation: isolated (any Actor)? = #isolation) async throws {
        try await settle(inFlight.count)
    }

    /// Gives `onSettled` those on their way that the broker has taken all the same, after a failure.
    package func abandon(isolation: isolated (any Actor)? = #isolation) async {
        for (job, confirm) in inFlight where (try? await confirm.result) == .confirmed { try? onSettled(job, nil) }
        inFlight = []
    }

    private func settle(_ number: Int, isolation: isolated (any Actor)? = #isolation) async throws {
        for _ in 0..<number {
            let (job, confirm) = inFlight.removeFirst()
            switch try await confirm.result {
            case .confirmed: try onSettled(job, nil)
            case .returned: try onSettled(job, .noQueue)
            case .refused: try onSettled(job, .refused)
            }
            settled += 1
        }
    }
}
