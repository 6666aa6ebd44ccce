package import AMQP

/// A walk over the dead letters that were in a queue when it began, which changes nothing but what it is told to.
///
/// The letters are taken without an acknowledgement; the end of the walk, and of the process however it comes, puts
/// back in their order all that were not removed. What fails meanwhile comes to the queue's end and is not met, so that
/// a replay cannot chase its own failures.
///
/// One consumer with the largest prefetch: the broker keeps the order of what it puts back only for each consumer, and
/// a small one would be full of the letters that stay. (None at all means 2000 to a quorum queue.) The connection stops
/// reading where the walk is slower than the broker, so that memory is bounded all the same.
package final class DeadLetterQueue {
    /// The longest time in which letters are held.
    ///
    /// The broker closes a channel that holds a delivery for 30 minutes by default.
    ///
    /// Source: RabbitMQ's "Consumers", "Delivery Acknowledgement Timeout".
    package static let longestHold = Duration.seconds(600)
    /// Letters that are read ahead.
    private static let mostAhead = 1000

    /// The number of letters at the beginning.
    package let count: Int
    private let name: ByteString
    private let url: AMQPURL
    private let options: AMQPConnectionOptions
    private let longestHold: Duration
    private var connection: AMQPConnection
    private var subscription: AMQPConnection.Subscription
    private var deliveries: AsyncStream<Delivery>.Iterator
    /// Letters that the consumers can hold.
    private var room = Int(UInt16.max)
    private var removed: Set<DeliveryTag> = []
    private var removedBefore = 0
    private var met = 0
    private var openedAt = ContinuousClock.now

    /// Begins a walk on a connection of its own; throws `AMQPError`, with `notFound` where there is no such queue.
    package init(
        _ name: ByteString,
        at url: AMQPURL,
        options: AMQPConnectionOptions,
        longestHold: Duration = longestHold,
        isolation: isolated (any Actor)? = #isolation
    ) async throws {
        self.name = name
        self.url = url
        var options = options
        options.mostUntaken = Self.mostAhead
        options.heartbeat = .zero
        self.options = options
        self.longestHold = longestHold
        connection = try await AMQPConnection.open(url, options: options)
        count = Int(try await connection.inspect(queue: name).messageCount)
        subscription = try await connection.consume(from: name, prefetch: .max)
        deliveries = subscription.deliveries.makeAsyncIterator()
    }

    /// The next letter; nil after the last of those that were there at the beginning, and where the task is cancelled.
    ///
    /// Throws `AMQPError` where the connection is lost.
    package func next(isolation: isolated (any Actor)? = #isolation) async throws -> DeadLetter? {
        guard removedBefore + met < count else { return nil }
        if met - removed.count >= room {
            // More stay than one consumer can hold: with a second one none is missed, only their order is not kept.
            try await connection.widen(subscription, from: name, by: .max)
            room += Int(UInt16.max)
        }
        guard let delivery = await deliveries.next(isolation: #isolation) else {
            guard !Task.isCancelled else { return nil }
            throw AMQPError(.closed, "the broker ended the walk over \(name); nothing is lost, run the command again")
        }
        connection.take()
        met += 1
        return DeadLetter(delivery)
    }

    /// Removes a letter for ever.
    package func remove(_ letter: DeadLetter) {
        guard removed.insert(letter.delivery.tag).inserted else { return }
        connection.acknowledge(letter.delivery.tag)
    }

    /// Whether the letters are held for so long that they are to be put back: see `putBack`.
    package var isStale: Bool { ContinuousClock.now - openedAt > longestHold }

    /// Puts back what is held and begins anew with it; none that was met may be in use.
    package func putBack(isolation: isolated (any Actor)? = #isolation) async throws {
        await connection.close()
        removedBefore += removed.count
        removed = []
        met = 0
        connection = try await AMQPConnection.open(url, options: options)
        // A consumer that comes before they are back would be sent later letters first. Where somebody else takes
        // letters meanwhile the number is never reached; then their order is not worth more waiting.
        let deadline = ContinuousClock.now + .seconds(5)
        while try await connection.inspect(queue: name).messageCount < count - removedBefore, .now < deadline {
            try await Task.sleep(for: .milliseconds(20))
        }
        subscription = try await connection.consume(from: name, prefetch: .max)
        deliveries = subscription.deliveries.makeAsyncIterator()
        room = Int(UInt16.max)
        openedAt = .now
    }

    /// Ends the walk; the broker puts back all that was not removed.
    package func close(isolation: isolated (any Actor)? = #isolation) async {
        await connection.close()
    }
}
