import EditJob
import Journal
import NIOConcurrencyHelpers
package import RabbitMQ
import SharedValues

// The stream on a connection: declared, read, looked into and written.

extension LedgerJournal {
    /// Messages that the broker sends ahead: under load one has 20 KB, and with 2000 the replay of a long ledger took 45 MB
    /// more.
    private static let prefetch: UInt16 = 400
    /// The broker is given up after this long without an answer.
    private static let longestWait = Duration.seconds(10)

    /// A connection that the ledger uses, or has used.
    final class Link: Sendable {
        let number: Int
        let connection: AMQPConnection
        let publisher: Publisher
        let user: String?

        init(number: Int, _ connection: AMQPConnection, _ publisher: Publisher, user: String?) {
            self.number = number
            self.connection = connection
            self.publisher = publisher
            self.user = user
        }
    }

    /// Begins to use a connection, until it ends; the one before is of no use any more.
    ///
    /// Reads what was written since, or all that is remembered. An error says what the broker refused.
    package func attach(_ connection: AMQPConnection) async throws(AMQPError) -> AMQPConnection {
        let user = try await connection.userName()
        try await establish(on: connection)
        let publisher = try await connection.makePublisher()
        let (link, effects) = state.withLockedValue { state in
            let link = Link(number: (state.link?.number ?? 0) + 1, connection, publisher, user: user)
            state.link = link
            return (link, state.handle(.connected(link: link.number, user: user)))
        }
        startClock()
        try await begin(on: link, effects)
        return connection
    }

    /// Makes sure that the stream is there.
    private func establish(on connection: AMQPConnection) async throws(AMQPError) {
        let stream = options.stream.name
        do throws(AMQPError) {
            _ = try await connection.inspect(queue: stream)
            return
        } catch {
            switch error.code {
            case .notFound where options.mayDeclare: break
            case .accessRefused:
                throw AMQPError(
                    error.code,
                    error.message,
                    remedy: "allow the user to read \(stream), or set "
                        + "journal.store to sqlite:PATH or memory",
                    replyCode: error.replyCode,
                    cause: error
                )
            default: throw error
            }
        }
        do throws(AMQPError) {
            // One whose leader is not up yet is missing, too, for a moment.
            _ = try await connection.declare(options.stream)
        } catch {
            guard error.code != .connectionLost, error.code != .closed else { throw error }
            throw AMQPError(
                error.code,
                "cannot declare the stream \(stream): \(error.message)",
                remedy: Self.isWithoutStreams(error) ? Self.withoutStreams : error.remedy,
                replyCode: error.replyCode,
                cause: error
            )
        }
    }

    /// What to do about a broker without streams.
    package static let withoutStreams =
        "enable streams on the broker (rabbitmqctl enable_feature_flag stream_queue), or set journal.store to sqlite:PATH or memory"

    /// Whether a broker refuses a stream since it knows no such type; whatever else it refuses has another cause.
    package static func isWithoutStreams(_ error: AMQPError) -> Bool {
        let words = error.message.lowercased()
        return ["feature flag", "x-queue-type", "not_implemented", "unsupported"].contains { words.contains($0) }
    }

    // MARK: - Questions to the broker

    /// Carries out what needs the broker's answer, which is an event; nil if that comes by itself.
    func ask(_ effect: LedgerEffect, on link: Link) async throws(AMQPError) -> LedgerEvent? {
        switch effect {
        case .inspectJobs: return .sawJobs(try await inspectJobs(on: link), link: link.number)
        case .greet(let number, let body):
            let result = try await link.publisher.publish(outbound(body, on: link))
            guard result == .confirmed else {
                throw AMQPError(.notFound, "the broker does not take records for \(options.stream.name): \(result)")
            }
            return .confirmed(number, link: link.number)
        case .look(let offset):
            guard try await ends(behind: offset, on: link) else { return .saw(nil, at: nil, link: link.number) }
            let delivery = try await first(.at(offset), on: link)
            let message = try? LedgerMessage(parsing: delivery.body)
            return .saw(message?.id, at: delivery.streamOffset, link: link.number)
        case .lookFirst:
            let offset = try await first(.first, on: link).streamOffset
            return offset.map { .sawFirst($0, link: link.number) }
        case .consume(let offset):
            let consumer = try await link.connection.consume(
                from: options.stream.name,
                prefetch: Self.prefetch,
                arguments: (offset.map { StreamOffset.at($0) } ?? .first).arguments
            )
            // On the connection's own thread, which saves a change of threads for each record. Not on the jobs' executor: a long
            // ledger, or many records of others, would keep its loop from its sockets.
            Task { await read(consumer, on: link, link.connection) }
            return .reads(link: link.number)
        case .fetch(let id, let offset, let waiter):
            guard let delivery = try? await first(.at(offset), on: link) else {
                return .fetched(nil, isAnswer: false, waiter)
            }
            let message = try? LedgerMessage(parsing: delivery.body)
            let acceptance = delivery.streamOffset == offset ? message.flatMap { Acceptance(of: id, in: $0) } : nil
            return .fetched(acceptance, isAnswer: true, waiter)
        case .publish, .flushSoon, .answer, .turn, .tell, .leave, .read, .lagged, .remembers, .knowsFleet, .isOutdated,
            .awaitsOthers, .readStranger, .needsName:
            return nil
        }
    }

    /// Whether the stream goes on behind an offset; a reader of what does not come would wait.
    ///
    /// The last piece is the greeting's, or a later one; but it is read from the node's own copy, which may be behind.
    private func ends(behind offset: Int64, on link: Link) async throws(AMQPError) -> Bool {
        let deadline = ContinuousClock.now + .seconds(3)
        while true {
            if let last = try await first(.last, on: link).streamOffset, last > offset { return true }
            guard .now < deadline else { return false }
            try? await Task.sleep(for: .milliseconds(100))
        }
    }

    private func inspectJobs(on link: Link) async throws(AMQPError) -> LedgerEvent.JobQueue {
        do throws(AMQPError) {
            let status = try await link.connection.inspect(queue: options.jobs)
            // What a worker held before may stand there too.
            let waiting = try await undelivered(on: link)
            return .seen(ready: Int(status.messageCount) + waiting, consumers: Int(status.consumerCount))
        } catch {
            switch error.code {
            // A queue without a leader may answer so too, in other words.
            case .notFound: return error.message.contains("no queue") ? .missing : .hidden
            case .accessRefused: return .hidden
            default: throw error
            }
        }
    }

    /// Jobs that wait among those which the broker took out of the job queue.
    private func undelivered(on link: Link) async throws(AMQPError) -> Int {
        guard let queue = options.undelivered else { return 0 }
        do throws(AMQPError) {
            return Int(try await link.connection.inspect(queue: queue).messageCount)
        } catch {
            guard error.code == .notFound else { throw error }
            return 0
        }
    }

    /// The first message from an offset on; an error if none comes in time.
    private func first(_ offset: StreamOffset, on link: Link) async throws(AMQPError) -> Delivery {
        let consumer = try await link.connection.consume(
            from: options.stream.name,
            prefetch: 1,
            arguments: offset.arguments
        )
        let timer = Task {
            try await Task.sleep(for: Self.longestWait)
            try await consumer.cancel()
        }
        var deliveries = consumer.deliveries.makeAsyncIterator()
        let delivery = await deliveries.next()
        timer.cancel()
        guard let delivery else {
            throw AMQPError(.timedOut, "the broker sends nothing of the stream \(options.stream.name)")
        }
        try await consumer.cancel()
        _ = delivery.acknowledge()
        return delivery
    }

    // MARK: - Reading and writing

    private func read(_ consumer: Consumer, on link: Link, _ isolation: isolated AMQPConnection) async {
        for await delivery in consumer.deliveries {
            if let offset = delivery.streamOffset {
                let body = delivery.isBodyKept ? delivery.body : nil
                handle(.read(body, user: delivery.properties.userID?.text, at: offset, link: link.number))
            }
            _ = delivery.acknowledge()
        }
        // The connection is gone, or the stream's leader; another connection finds the new one.
        handle(.disconnected(link: link.number, isSilent: false))
        isolation.close()
    }

    func publish(_ number: Int64?, _ body: [UInt8], on link: Link) {
        link.publisher.enqueue(outbound(body, on: link)) { [weak self] result in
            switch result {
            case .success(.confirmed):
                if let number { self?.handle(.confirmed(number, link: link.number)) }
            // Lost with the connection, or the stream is gone: on another connection it is published again.
            case .success: self?.handle(.disconnected(link: link.number, isSilent: false))
            case .failure(let error):
                self?.handle(.disconnected(link: link.number, isSilent: error.code == .timedOut))
            }
        }
    }

    private func outbound(_ body: [UInt8], on link: Link) -> OutboundMessage {
        var properties = MessageProperties()
        properties.contentType = "application/json"
        properties.deliveryMode = 2
        properties.type = "seedream.ledger"
        properties.appID = "seedream-worker"
        properties.userID = link.user.map { ByteString($0) }
        return OutboundMessage(routingKey: options.stream.name, properties: properties, body: body)
    }
}

extension LedgerMoment {
    package static var now: LedgerMoment { LedgerMoment(monotonic: .now, wall: Timestamp.now.milliseconds) }
}
