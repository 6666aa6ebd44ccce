package import Logging
package import RabbitMQ
import Telemetry

/// Takes tasks that are due from their queue, and lets each be looked at: beside the jobs, which never wait for it.
package struct FollowIntake: Sendable {
    private let queue: ByteString
    private let concurrency: UInt16
    private let follower: Follower
    private let logger: Logger

    package init(queue: ByteString, concurrency: UInt16, follower: Follower, logger: Logger) {
        self.queue = queue
        self.concurrency = concurrency
        self.follower = follower
        self.logger = logger
    }

    /// Takes tasks until the drain begins, if this user may, whatever `follow.tasks` says of new ones: each was promised a look,
    /// perhaps by another replica, and brings to their ends those that were taken.
    func run(over links: BrokerLinks, until gate: Gate) async {
        // What was seen must be told: nothing is taken before there is a connection to tell it on.
        guard await links.publisher.session() != nil else { return }
        await withDiscardingTaskGroup { looks in
            while !Task.isCancelled, gate.intake() != .ended {
                guard let connection = await links.consumer.session() else { return }
                let consumer: Consumer
                do throws(AMQPError) {
                    consumer = try await connection.consume(from: queue, prefetch: concurrency)
                } catch {
                    guard error.code != .accessRefused else { return report(error) }
                    if error.code != .closed { report(error) }
                    await gate.wait(until: .now + .seconds(1))
                    continue
                }
                let watch = Task {
                    await gate.untilDrain { await Self.never() }
                    try? await consumer.cancel()
                }
                for await delivery in consumer.deliveries {
                    let follower = follower
                    looks.addTask { await follower.take(delivery) }
                }
                watch.cancel()
                await consumer.closeIfCancelled()
            }
        }
    }

    private func report(_ error: AMQPError) {
        logger.log(.warning, "cannot consume", [.queue: queue.text, .error: error.message, .remedy: error.remedy])
    }

    /// Waits until the task is cancelled.
    private static func never() async {
        try? await Task.sleep(for: .seconds(1_000_000_000))
    }
}
