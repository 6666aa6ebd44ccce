package import RabbitMQ

/// Goes through the dead letters that were in a queue when it began, and changes nothing but what it is told to.
///
/// The letters are taken without an acknowledgement; the end, and that of the process however it comes, puts back all that
/// were not removed. Their order may be another one then. What fails meanwhile comes to the queue's end and is not met, so that
/// a replay cannot chase its own failures.
///
/// The connection stops reading if the broker is faster than the reader, so that memory is bounded.
package final class DeadLetterQueue {
    /// The longest time in which letters are held.
    ///
    /// The broker closes a channel that holds a delivery for 30 minutes by default.
    ///
    /// Source: RabbitMQ's "Consumers", "Delivery Acknowledgement Timeout".
    package static let longestHold = Duration.seconds(600)
    /// Letters that the first consumer may hold, and that are read ahead.
    private static let mostAhead = 1000

    /// How long to wait for a letter before asking whether there is one.
    private static let patience = Duration.seconds(2)

    /// The number of letters at the beginning.
    package let count: Int
    /// Whether another consumer holds or takes letters of the queue.
    package var isShared: Bool { others > 0 }
    private let others: UInt32
    /// Letters that were counted and never came: another consumer has them.
    package private(set) var missing = 0
    private let name: ByteString
    private let url: AMQPURL
    private let options: AMQPConnectionOptions
    private let longestHold: Duration
    private var connection: AMQPConnection
    private var consumer: Consumer
    private var deliveries: Consumer.Deliveries.Iterator
    /// Letters that one consumer may hold.
    private let prefetch: UInt16
    /// Letters that all consumers may hold.
    private var room: Int
    private var removed: Set<DeliveryTag> = []
    private var removedBefore = 0
    private var met = 0
    private var openedAt = ContinuousClock.now

    /// Begins a walk on a connection of its own; throws `AMQPError`, with `notFound` if there is no such queue.
    ///
    /// `prefetch` is how many letters are held at first.
    package init(
        _ name: ByteString,
        at url: AMQPURL,
        options: AMQPConnectionOptions,
        prefetch: UInt16 = UInt16(mostAhead),
        longestHold: Duration = longestHold,
        isolation: isolated (any Actor)? = #isolation
    ) async throws {
        self.name = name
        self.url = url
        var options = options
        options.heartbeat = .zero
        self.options = options
        self.longestHold = longestHold
        // None at all would be no limit.
        self.prefetch = max(1, prefetch)
        room = Int(self.prefetch)
        connection = try await AMQPConnection.open(url, options: options)
        let status = try await connection.inspect(queue: name)
        count = Int(status.messageCount)
        others = status.consumerCount
        consumer = try await connection.consume(from: name, prefetch: self.prefetch, readAhead: Self.mostAhead)
        deliveries = consumer.deliveries.makeAsyncIterator()
    }

    /// The next letter; nil after the last of those that were there at the beginning, and if the task is cancelled.
    ///
    /// Throws `AMQPError` if the connection is lost.
    package func next(isolation: isolated (any Actor)? = #isolation) async throws -> DeadLetter? {
        guard removedBefore + met + missing < count else { return nil }
        // What was read ahead is of no use once the connection is gone: the broker has it back.
        guard connection.isOpen else { throw Self.lost(name) }
        if met - removed.count >= room {
            // Twice as many, by one more consumer, so that few are needed for a long queue.
            let more = UInt16(clamping: room)
            try await consumer.raisePrefetch(by: more)
            room += Int(more)
        }
        let watch = Self.ending(consumer, on: connection)
        defer { watch.cancel() }
        guard let delivery = await deliveries.next(isolation: #isolation) else {
            guard !Task.isCancelled else { return nil }
            guard connection.isOpen else { throw Self.lost(name) }
            missing = count - removedBefore - met
            return nil
        }
        guard connection.isOpen else { throw Self.lost(name) }
        met += 1
        return DeadLetter(delivery)
    }

    /// Ends the waiting for letters that another consumer has taken; they were counted, and will not come.
    private static func ending(
        _ consumer: Consumer,
        on connection: AMQPConnection
    ) -> Task<Void, any Error> {
        Task {
            while true {
                try await Task.sleep(for: patience)
                guard try await connection.inspect(queue: consumer.queue).messageCount == 0 else { continue }
                try await consumer.cancel()
                return
            }
        }
    }

    private static func lost(_ name: ByteString) -> AMQPError {
        AMQPError(
            .connectionLost,
            "the connection of the walk over \(name) was lost",
            remedy: "what was not removed is where it was; run the command again"
        )
    }

    /// Removes a letter for ever.
    ///
    /// Throws `AMQPError` if the connection is gone, and with it the right to do so: the broker has the letter back.
    package func remove(_ letter: DeadLetter) throws {
        guard letter.delivery.acknowledge() else { throw Self.lost(name) }
        removed.insert(letter.delivery.tag)
    }

    /// Whether the letters are held for so long that they are to be put back: see `putBack`.
    package var isStale: Bool { ContinuousClock.now - openedAt > longestHold }

    /// Puts back what is held and begins anew with it; none that was met may be in use.
    package func putBack(isolation: isolated (any Actor)? = #isolation) async throws {
        try await confirmRemovals()
        await connection.close()
        removedBefore += removed.count
        removed = []
        met = 0
        connection = try await AMQPConnection.open(url, options: options)
        // A consumer that comes before they are back would be sent later letters first. If another consumer takes
        // letters meanwhile, the number is never reached; then their order is not worth more waiting.
        let deadline = ContinuousClock.now + .seconds(5)
        while try await connection.inspect(queue: name).messageCount < count - removedBefore - missing,
            .now < deadline, !Task.isCancelled
        {
            try? await Task.sleep(for: .milliseconds(20))
        }
        consumer = try await connection.consume(from: name, prefetch: self.prefetch, readAhead: Self.mostAhead)
        deliveries = consumer.deliveries.makeAsyncIterator()
        room = Int(prefetch)
        openedAt = .now
    }

    /// Waits until the broker has removed what was to be removed.
    ///
    /// Throws `AMQPError`; then some of it may be there again.
    package func confirmRemovals(isolation: isolated (any Actor)? = #isolation) async throws {
        guard !removed.isEmpty else { return }
        try await consumer.flush()
    }

    /// The end of a walk, to be carried out elsewhere: the broker first finishes what it is sending.
    package struct Ending: Sendable {
        fileprivate let connection: AMQPConnection
        fileprivate let name: ByteString
        fileprivate let url: AMQPURL
        fileprivate let options: AMQPConnectionOptions
        fileprivate let count: Int
        /// Consumers that were there before the walk.
        fileprivate let others: UInt32

        /// Ends the walk, and waits until all that was not removed is back: another look before that would miss letters.
        ///
        /// The broker puts them back as it forgets the consumer. Returns after 10 s in any case.
        package func finish() async {
            let isConnected = connection.isOpen
            await connection.close()
            guard isConnected, let connection = try? await AMQPConnection.open(url, options: options) else { return }
            let deadline = ContinuousClock.now + .seconds(10)
            while let status = try? await connection.inspect(queue: name), status.messageCount < count,
                status.consumerCount > others, .now < deadline, !Task.isCancelled
            {
                try? await Task.sleep(for: .milliseconds(10))
            }
            await connection.close()
        }
    }

    /// How this walk ends; nothing may be asked of it afterwards.
    package var ending: Ending {
        Ending(
            connection: connection,
            name: name,
            url: url,
            options: options,
            count: count - removedBefore - removed.count - missing,
            others: others
        )
    }
}
