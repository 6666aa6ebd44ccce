import NIOConcurrencyHelpers
import ThreadExecutor

/// A registered consumer: the deliveries of one queue, and what can be asked of it.
///
/// From any thread. It ends with its connection.
package struct Consumer: Sendable {
    /// The deliveries, in the broker's order; ends with the consumer or the connection.
    package let deliveries: Deliveries
    /// The queue that it takes from.
    package let queue: ByteString

    private let connection: AMQPConnection
    private let id: ByteString

    init(_ connection: AMQPConnection, id: ByteString, queue: ByteString, deliveries: Deliveries) {
        self.connection = connection
        self.id = id
        self.queue = queue
        self.deliveries = deliveries
    }

    /// Ends the consumer.
    ///
    /// What was delivered before stays in `deliveries`, unacknowledged, and the sequence then ends.
    package func cancel() async throws(AMQPError) {
        try await connection.cancelConsumer(id)
    }

    /// Ends the connection if the broker has ended the consumer of a queue that is still there: a delivery that was held for too long does that from
    /// RabbitMQ 4.3 on, and 4.3.6 goes on sending to it what then is lost.
    ///
    /// Source: RabbitMQ's "Consumers", "Delivery Acknowledgement Timeout".
    package func closeIfCancelled() async {
        await connection.closeIfCancelled(id, of: queue)
    }

    /// Lets the consumer have `count` more unacknowledged deliveries.
    ///
    /// By one more consumer at the broker: the prefetch of one is fixed. Does nothing if the consumer has ended.
    /// Source: RabbitMQ's "Consumer Prefetch".
    package func raisePrefetch(by count: UInt16) async throws(AMQPError) {
        try await connection.raisePrefetch(of: id, by: count)
    }

    /// Waits until the broker has everything that was acknowledged or given back before.
    ///
    /// By a round trip on the same channel, a question about the consumer's own queue.
    package func flush() async throws(AMQPError) {
        try await connection.flushAcknowledgements(askingFor: queue)
    }

    /// What a consumer is sent: a sequence for one reader.
    package struct Deliveries: AsyncSequence, Sendable {
        let queue: DeliveryQueue
        let readAhead: ReadAhead?

        package func makeAsyncIterator() -> Iterator {
            Iterator(queue: queue, readAhead: readAhead)
        }

        /// Takes one delivery after the other.
        package struct Iterator: AsyncIteratorProtocol {
            let queue: DeliveryQueue
            let readAhead: ReadAhead?

            /// The next delivery; nil after the last, and if the task is cancelled.
            package mutating func next(isolation actor: isolated (any Actor)? = #isolation) async -> Delivery? {
                let delivery = await queue.next(isolation: actor)
                if delivery != nil { readAhead?.took() }
                return delivery
            }
        }
    }
}

/// Counts the deliveries that were read and not taken yet, where a consumer limits them.
final class ReadAhead: Sendable {
    private let limit: Int
    private let thread: SocketThread
    private let untaken = NIOLockedValueBox(0)

    init(limit: Int, thread: SocketThread) {
        self.limit = limit
        self.thread = thread
    }

    /// Whether the rest is better left with the broker.
    var isFull: Bool { untaken.withLockedValue { $0 >= limit } }

    /// A delivery was read.
    func read() {
        untaken.withLockedValue { $0 += 1 }
    }

    /// A delivery was taken; the thread reads on once half of them are.
    func took() {
        let left = untaken.withLockedValue { count in
            count -= 1
            return count
        }
        if left == limit / 2 { thread.wake() }
    }
}
