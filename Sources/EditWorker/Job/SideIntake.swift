package import Logging
package import RabbitMQ
import Telemetry

/// Takes deliveries of another queue than the jobs', and has each brought to its end: beside the jobs, which never wait for it,
/// and whatever the gate says, since nothing is submitted.
package struct SideIntake: Sendable {
    private let queue: ByteString
    private let prefetch: UInt16
    private let logger: Logger
    private let untilReady: @Sendable () async -> Void
    private let take: @Sendable (Delivery) async -> Void

    /// An intake that has at most `prefetch` deliveries at once, and gives each to `take`, once `untilReady` has returned.
    package init(
        queue: ByteString,
        prefetch: UInt16,
        logger: Logger,
        untilReady: @escaping @Sendable () async -> Void = {},
        take: @escaping @Sendable (Delivery) async -> Void
    ) {
        self.queue = queue
        self.prefetch = prefetch
        self.logger = logger
        self.untilReady = untilReady
        self.take = take
    }

    /// Takes deliveries until the drain begins, if this user may, and brings to their ends those that were taken.
    func run(over links: BrokerLinks, until gate: Gate) async {
        // What was seen must be told: nothing is taken before there is a connection to tell it on.
        guard await links.publisher.session() != nil else { return }
        await gate.untilDrain { await untilReady() }
        var reported: AMQPError?
        await withDiscardingTaskGroup { tasks in
            while !Task.isCancelled, gate.intake() != .ended {
                guard let connection = await links.consumer.session() else { return }
                let consumer: Consumer
                do throws(AMQPError) {
                    consumer = try await connection.consume(from: queue, prefetch: prefetch)
                } catch {
                    if error.code != .closed, error != reported { report(error) }
                    reported = error
                    guard error.code != .accessRefused else { return }
                    await gate.wait(until: .now + .seconds(1))
                    continue
                }
                reported = nil
                let watch = Task {
                    await gate.untilDrain { await Self.never() }
                    try? await consumer.cancel()
                }
                for await delivery in consumer.deliveries {
                    let take = take
                    tasks.addTask { await take(delivery) }
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
