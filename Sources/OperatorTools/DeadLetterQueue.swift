package import AMQP

/// A walk over the dead letters that were in a queue when it began, which changes nothing but what it is told to.
///
/// The letters are taken without an acknowledgement; the end of the walk, and of the process however it comes, puts
/// back in their order all that were not removed. What fails meanwhile comes to the queue's end and is not met, so that
/// a replay cannot chase its own failures.
///
/// One consumer with the largest prefetch, even if few letters are wanted: a quorum queue puts what comes back behind
/// what came back before, so that a walk that takes less than the one before it would leave them turned around. The
/// broker keeps the order of what it puts back only for each consumer, and a small one would be full of the letters that
/// stay. (None at all means 2000 to a quorum queue.) The connection stops reading if the walk is slower than the
/// broker, so that memory is bounded all the same.
///
/// The broker needs 0.7 s before it sends the first of 65 535 letters. So a short look begins with `few`: if one of them
/// was never sent before, all that came back before are among them, and the order is kept; if not, the rest is taken at
/// the end, when nobody waits for it.
package final class DeadLetterQueue {
    /// The longest time in which letters are held.
    ///
    /// The broker closes a channel that holds a delivery for 30 minutes by default.
    ///
    /// Source: RabbitMQ's "Consumers", "Delivery Acknowledgement Timeout".
    package static let longestHold = Duration.seconds(600)
    /// Letters that are read ahead.
    private static let mostAhead = 1000

    /// The most letters that a short look reads on before it leaves the rest to its end.
    private static let mostAtOnce = 1000

    /// How many letters can be looked at so that their order is kept in any case: as many as one consumer can hold.
    package static let mostInOrder = Int(UInt16.max)

    /// How long to wait for a letter before asking whether there is one.
    private static let patience = Duration.seconds(2)

    /// The number of letters at the beginning.
    package let count: Int
    /// Whether somebody else holds or takes letters of the queue.
    package var isShared: Bool { others > 0 }
    private let others: UInt32
    /// Letters that were counted and never came: somebody else has them.
    package private(set) var missing = 0
    private let prefetch: UInt16
    private let name: ByteString
    private let url: AMQPURL
    private let options: AMQPConnectionOptions
    private let longestHold: Duration
    private var connection: AMQPConnection
    private var consumer: Consumer
    private var deliveries: Consumer.Deliveries.Iterator
    /// Letters that the consumers can hold.
    private var room: Int
    private var hasMetNew = false
    private var removed: Set<DeliveryTag> = []
    private var removedBefore = 0
    private var met = 0
    private var openedAt = ContinuousClock.now

    /// Begins a walk on a connection of its own; throws `AMQPError`, with `notFound` if there is no such queue.
    ///
    /// `few` is for a short look, the number of letters to take first; `most` is what one consumer can hold: less than
    /// the default turns the letters' order around (see above).
    package init(
        _ name: ByteString,
        at url: AMQPURL,
        options: AMQPConnectionOptions,
        few: Int? = nil,
        most: Int? = nil,
        longestHold: Duration = longestHold,
        isolation: isolated (any Actor)? = #isolation
    ) async throws {
        self.name = name
        self.url = url
        var options = options
        options.heartbeat = .zero
        self.options = options
        self.longestHold = longestHold
        prefetch = UInt16(clamping: max(1, most ?? .max))
        let first = UInt16(clamping: min(max(1, few ?? .max), Int(prefetch)))
        room = Int(first)
        connection = try await AMQPConnection.open(url, options: options)
        let status = try await connection.inspect(queue: name)
        count = Int(status.messageCount)
        others = status.consumerCount
        consumer = try await connection.consume(from: name, prefetch: first, readAhead: Self.mostAhead)
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
            // If more stay than one consumer can hold, another one takes the next, so that none is missed.
            let more = [Self.mostAtOnce, Int(prefetch)].first { $0 > room }.map { $0 - room } ?? Int(prefetch)
            try await consumer.raisePrefetch(by: UInt16(clamping: more))
            room += more
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
        if !delivery.redelivered { hasMetNew = true }
        return DeadLetter(delivery)
    }

    /// Ends a short look: reads on a little until a letter comes that was never sent before.
    ///
    /// No letter may be in use. Returns how many letters the next look should take first, so that it meets such a one
    /// at once; nil if that is not known or too many. Throws as `next`.
    package func readOn(isolation: isolated (any Actor)? = #isolation) async throws -> Int? {
        while !hasMetNew, met < Self.mostAtOnce, try await next() != nil {}
        return hasMetNew && room < Self.mostAtOnce ? room + 1 : nil
    }

    /// Ends the waiting for letters that somebody else has taken; they were counted, and will not come.
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
        // A consumer that comes before they are back would be sent later letters first. If somebody else takes
        // letters meanwhile, the number is never reached; then their order is not worth more waiting.
        let deadline = ContinuousClock.now + .seconds(5)
        while try await connection.inspect(queue: name).messageCount < count - removedBefore - missing,
            .now < deadline, !Task.isCancelled
        {
            try? await Task.sleep(for: .milliseconds(20))
        }
        consumer = try await connection.consume(from: name, prefetch: prefetch, readAhead: Self.mostAhead)
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
        fileprivate let consumer: Consumer
        /// Letters that may have come back before and are not held yet.
        fileprivate let rest: Int
        fileprivate let name: ByteString
        fileprivate let url: AMQPURL
        fileprivate let options: AMQPConnectionOptions
        fileprivate let count: Int
        /// Consumers that were there before the walk.
        fileprivate let others: UInt32
        fileprivate let isConnected: Bool

        /// Ends the walk, and waits until all that was not removed is back: another look before that would miss letters, and
        /// be sent later ones first.
        ///
        /// The broker puts them back as it forgets the consumer. Returns after 10 s in any case.
        package func finish() async {
            await consumer.close(taking: rest)
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
            consumer: consumer,
            rest: hasMetNew ? 0 : max(0, count - removedBefore - missing - room),
            name: name,
            url: url,
            options: options,
            count: count - removedBefore - removed.count - missing,
            others: others,
            isConnected: connection.isOpen
        )
    }
}
