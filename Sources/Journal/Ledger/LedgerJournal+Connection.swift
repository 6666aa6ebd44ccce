package import AMQP
import EditJob
import NIOConcurrencyHelpers
import SharedValues

// How the ledger uses a connection: what is declared there, what is read and published.

extension LedgerJournal {
    /// Messages that the broker sends ahead: under load one has 20 KB, and with 2000 the replay of a long ledger took 45 MB
    /// more.
    private static let prefetch: UInt16 = 400
    /// How long deliveries may come back that were submitted before a ledger which replaces another: as long as the broker
    /// lets a delivery be unacknowledged by default (RabbitMQ's "Consumers", "Delivery Acknowledgement Timeout").
    private static let longestDoubt: Int64 = 1800

    /// Begins to use a connection, until it ends; the one before is of no use any more.
    ///
    /// Reads what was written since, or all that is remembered. An error says what the broker refused.
    package func attach(_ connection: AMQPConnection) async throws(AMQPError) -> AMQPConnection {
        // Nothing goes out on the old connection any more.
        state.withLockedValue { $0.publisher = nil }
        let user = try await connection.userName()
        state.withLockedValue { $0.user = user }
        let isNew = try await establish(on: connection)
        let publisher = try await connection.makePublisher()
        try await greet(isNew: isNew, by: publisher)
        let consumer = try await consume(on: connection)
        state.withLockedValue { state in
            state.publisher = publisher
            state.silence.connected()
            state.reported = nil
            // What was written of it on the old connection may be lost.
            state.toldKnown = false
            state.lastCame = .now
        }
        startExpiring()
        // Not on the jobs' executor: a long ledger, or many records of others, would keep its loop from its sockets.
        Task { await read(consumer, publisher) }
        pump()
        return connection
    }

    /// Makes sure that the stream is there; true if it was not.
    private func establish(on connection: AMQPConnection) async throws(AMQPError) -> Bool {
        let stream = options.stream.name
        do throws(AMQPError) {
            _ = try await connection.inspect(queue: stream)
            return false
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
            return try await connection.declare(options.stream).messageCount == 0
        } catch {
            guard error.code != .connectionLost, error.code != .closed else { throw error }
            // A broker without streams knows no such type; whatever else it refuses has another cause, and its own remedy.
            let words = error.message.lowercased()
            let isWithoutStreams = ["feature flag", "x-queue-type", "not_implemented", "unsupported"]
                .contains {
                    words.contains($0)
                }
            throw AMQPError(
                error.code,
                "cannot declare the stream \(stream): \(error.message)",
                remedy: isWithoutStreams
                    ? "enable streams on the broker (rabbitmqctl enable_feature_flag stream_queue), or set "
                        + "journal.store to sqlite:PATH or memory" : error.remedy,
                replyCode: error.replyCode,
                cause: error
            )
        }
    }

    /// Greets the others; says what is in doubt if the stream is not the one that was read, or has lost its end.
    ///
    /// What was delivered before, and stands nowhere in this stream, may have been submitted: from the very first message on.
    /// Whether an empty stream is empty no broker tells reliably, but the offset of that message does.
    private func greet(isNew: Bool, by publisher: Publisher) async throws(AMQPError) {
        var greeting = options.greeting
        greeting.settings["amqp.user"] = state.withLockedValue { $0.user }
        let hello = LedgerRecord.hello(greeting)
        let (last, isStartingOver) = state.withLockedValue { ($0.replica.lastRead, $0.replica.isStartingOver) }
        guard last != nil || isStartingOver else {
            let doubt = try await doubt(on: publisher.connection)
            return try await greet([.born(doubtSeconds: doubt, ifFirst: true), hello], by: publisher)
        }
        if let last {
            var isContinued = false
            if !isNew {
                // First of all: behind what was read there is something to be found now, if that still stands there.
                try await greet([hello], by: publisher)
                isContinued = try await self.isContinued(after: last, on: publisher.connection)
            }
            if !isContinued { state.withLockedValue { $0.replica.startOver() } }
            guard !isContinued || isStartingOver else { return }
        }
        try await greet([.born(doubtSeconds: Self.longestDoubt), hello], by: publisher)
    }

    private func greet(_ records: [LedgerRecord], by publisher: Publisher) async throws(AMQPError) {
        let message = state.withLockedValue { $0.replica.greet(records, at: Timestamp.now.milliseconds) }
        try await publish(message, by: publisher)
    }

    /// For how long deliveries may come back that somebody had before there was this ledger, in seconds.
    ///
    /// Other consumers may hold some. What has come back already is delivered before anything that comes for the first time.
    private func doubt(on connection: AMQPConnection) async throws(AMQPError) -> Int64 {
        do throws(AMQPError) {
            let status = try await connection.inspect(queue: options.jobs)
            // A classic queue forgets a consumer that is cancelled and still holds deliveries.
            guard status.consumerCount == 0, options.countsHolders else { return Self.longestDoubt }
            return status.messageCount == 0 ? 0 : 3
        } catch {
            switch error.code {
            // A queue without a leader may answer so too, in other words.
            case .notFound: return error.message.contains("no queue") ? 0 : Self.longestDoubt
            // Nobody says; the worse is to be expected.
            case .accessRefused: return Self.longestDoubt
            default: throw error
            }
        }
    }

    private func publish(_ message: LedgerMessage, by publisher: Publisher) async throws(AMQPError) {
        let result = try await publisher.publish(outbound(message))
        guard result == .confirmed else {
            throw AMQPError(.notFound, "the broker does not take records for \(options.stream.name): \(result)")
        }
        state.withLockedValue { $0.replica.confirmed(message.number) }
    }

    /// Reads on after what was read last, or all that is remembered.
    private func consume(on connection: AMQPConnection) async throws(AMQPError) -> Consumer {
        if let last = state.withLockedValue({ $0.replica.lastRead }) {
            return try await consumer(.at(last.offset + 1), on: connection)
        }
        let from = max(0, Timestamp.now.seconds - options.retention.components.seconds)
        return try await consumer(.time(UInt64(from)), on: connection)
    }

    private func consumer(_ offset: StreamOffset, on connection: AMQPConnection) async throws(AMQPError) -> Consumer {
        try await connection.consume(
            from: options.stream.name,
            prefetch: Self.prefetch,
            arguments: offset.arguments
        )
    }

    /// Whether the message that was read last still stands where it stood.
    private func isContinued(
        after last: (replica: String, number: Int64, offset: Int64),
        on connection: AMQPConnection
    ) async throws(AMQPError) -> Bool {
        // A stream that ends before would keep us waiting. The last chunk is the greeting's, and a later one than that of what
        // was read.
        guard let end = try await first(.last, on: connection).streamOffset, end > last.offset else { return false }
        let delivery = try await first(.at(last.offset), on: connection)
        guard delivery.streamOffset == last.offset, let message = try? LedgerMessage(parsing: delivery.body) else {
            return false
        }
        return message.replica == last.replica && message.number == last.number
    }

    /// The first message from an offset on; an error if none comes in time.
    private func first(_ offset: StreamOffset, on connection: AMQPConnection) async throws(AMQPError) -> Delivery {
        let consumer = try await connection.consume(
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

    /// The acceptance of a job; nil if the record is gone.
    func acceptance(of id: String, at offset: Int64) async throws(JournalFault) -> Acceptance? {
        let (recent, connection) = state.withLockedValue { state in
            (state.recent.acceptance(of: id, at: offset), state.publisher?.connection)
        }
        if let recent { return recent }
        guard let connection else { throw Self.silent }
        let delivery: Delivery
        do throws(AMQPError) {
            delivery = try await first(.at(offset), on: connection)
        } catch {
            throw Self.silent
        }
        guard delivery.streamOffset == offset, let message = try? LedgerMessage(parsing: delivery.body)
        else { return nil }
        return Acceptance(of: id, in: message)
    }

    // MARK: - Reading and writing

    private func read(_ consumer: Consumer, _ publisher: Publisher) async {
        let start = Timestamp.now.milliseconds
        var first: Int64?
        for await delivery in consumer.deliveries {
            state.withLockedValue { $0.lastCame = .now }
            if let offset = delivery.streamOffset {
                if let message = message(of: delivery, at: offset) {
                    first = first ?? message.at
                    apply(message, at: offset, reading: first ?? start, to: start)
                } else {
                    state.withLockedValue { $0.replica.skip() }
                }
            }
            _ = delivery.acknowledge()
        }
        // The connection is gone, or the stream's leader; another connection finds the new one.
        state.withLockedValue { state in
            if state.publisher === publisher { state.publisher = nil }
        }
        await publisher.connection.close()
    }

    /// Our own are at most 400 records; what is larger than this is nobody's of ours, and is not parsed.
    private static let largestMessage = 1 << 20

    private func message(of delivery: Delivery, at offset: Int64) -> LedgerMessage? {
        guard delivery.isBodyKept, delivery.body.count <= Self.largestMessage else { return nil }
        let user = delivery.properties.userID?.text
        let writers = LedgerWriters(user: state.withLockedValue { $0.user }, others: options.writers)
        guard writers.counts(user) else {
            observer.read(["stranger": 1])
            note(stranger: user ?? "", delivery.body)
            return nil
        }
        if let own = state.withLockedValue({ $0.ownMessages.message(publishedAs: delivery.body) }) { return own }
        do throws(LedgerMessage.Unreadable) {
            return try LedgerMessage(parsing: delivery.body)
        } catch {
            // It may say that a job has begun.
            if error.isNewer { note(newerVersionAt: offset) }
            return nil
        }
    }

    /// Records of strangers have no effect on a replica that lives.
    ///
    /// But one that starts beside workers of another user would know nothing of what they submit, and they nothing of it.
    private func note(stranger user: String, _ body: [UInt8]) {
        let isStarting = state.withLockedValue { !$0.wasReady }
        var isWorker = false
        if isStarting, let message = try? LedgerMessage(parsing: body) {
            let age = Timestamp.now.milliseconds.subtractingReportingOverflow(message.at)
            isWorker =
                !age.overflow && age.partialValue < options.patience.wholeMilliseconds
                && message.records.contains { ["hello", "alive", "begin"].contains($0.kind) }
        }
        let isNew = state.withLockedValue { state in
            if isWorker { state.strangersUntil = .now + options.patience }
            return state.strangers.count < 100 && state.strangers.insert("\(isWorker) \(user)").inserted
        }
        if isNew { observer.readStranger(user, isAtStart: isWorker) }
    }

    /// Nothing more is submitted once a newer version writes the ledger; verdicts are still written.
    private func note(newerVersionAt offset: Int64) {
        let isFirst = state.withLockedValue { state in
            defer { state.isOutdated = true }
            return !state.isOutdated
        }
        if isFirst { observer.isOutdated() }
    }

    /// `first` is the time of the first record that was read, and `end` when the reading began, for the progress.
    private func apply(_ message: LedgerMessage, at offset: Int64, reading first: Int64, to end: Int64) {
        let (events, waiters, lag, entries, changes, tell) = state.withLockedValue { state in
            let (wasReady, wasUpToDate) = (state.isReady, state.replica.isUpToDate)
            let (pause, closure) = (state.replica.state.fleet.pause, state.replica.state.fleet.closure)
            let isNew = !state.replica.state.hasApplied(message)
            let events = state.replica.read(message, at: offset)
            let changes = Self.changes(
                in: &state,
                after: message,
                isNew: isNew,
                pause: pause,
                closure: closure,
                wasUpToDate: wasUpToDate
            )
            state.recent.read(message, at: offset)
            if state.replica.state.doubtsUntil == nil { state.toldKnown = false }
            let share = Double(message.at - first) / Double(max(1, end - first))
            state.progress = max(0, min(99, Int(share * 100)))
            var publishedAt: ContinuousClock.Instant?
            if message.replica == state.replica.name {
                publishedAt = state.ownMessages.publishedAt(message.number)
                state.ownMessages.cameBack(message.number)
                if let publishedAt, message.records.contains(where: { $0.kind == "alive" }) {
                    state.silence.readBack(publishedAt: publishedAt, at: .now)
                }
            } else {
                state.silence.heard(from: message.replica)
            }
            let isReady = !wasReady && state.isReady
            state.wasReady = state.wasReady || isReady
            return (
                events, isReady ? state.ready.removeAll() : [], publishedAt.map { .now - $0 },
                state.replica.state.count, changes + (isReady ? [.ready] : []), state.onFleetChange
            )
        }
        for change in changes { tell?(change) }
        resume(events)
        for waiter in waiters { waiter.resume() }
        if let lag { observer.lagged(lag) }
        var kinds: [String: Int] = [:]
        for record in message.records { kinds[record.kind, default: 0] += 1 }
        observer.read(kinds)
        observer.remembers(entries)
        if !waiters.isEmpty || message.records.contains(where: { $0.kind == "hello" }) {
            pump()
        }
    }

    /// Queues something and publishes it after the jobs that are ready to run, so that their records go out with it.
    func pumpSoon(after change: (inout State) -> Void) {
        let mustPump = state.withLockedValue { state in
            change(&state)
            // If a message is on its way, its confirm pumps.
            guard !state.isPumpDue, state.publisher != nil, state.replica.maySend else { return false }
            state.isPumpDue = true
            return true
        }
        if mustPump { Task(executorPreference: options.executor) { self.pump() } }
    }

    /// Publishes what waits, unless a message is on its way: what comes meanwhile goes out together.
    func pump() {
        let next = state.withLockedValue { state -> (Publisher, LedgerMessage)? in
            state.isPumpDue = false
            guard let publisher = state.publisher, let message = state.replica.next(at: Timestamp.now.milliseconds)
            else {
                return nil
            }
            return (publisher, message)
        }
        guard let (publisher, message) = next else { return }
        publisher.enqueue(outbound(message)) { [weak self] result in
            self?.published(message.number, by: publisher, result)
        }
    }

    private func published(_ number: Int64, by publisher: Publisher, _ result: Result<PublishResult, AMQPError>) {
        if result == .success(.confirmed) {
            state.withLockedValue { $0.replica.confirmed(number) }
            return pump()
        }
        // Lost with the connection, or the stream is gone: on another connection it is published again.
        let tell = state.withLockedValue { state -> (@Sendable (FleetChange) -> Void)? in
            guard state.publisher === publisher else { return nil }
            state.publisher = nil
            guard case .failure(let error) = result, error.code == .timedOut else { return nil }
            return state.onFleetChange
        }
        tell?(.silent)
        Task { await publisher.connection.close() }
    }

    /// A message in the form in which it is published; its bytes are kept, to recognise it when it comes back.
    func outbound(_ message: LedgerMessage) -> OutboundMessage {
        let body = message.encoded
        state.withLockedValue { $0.ownMessages.publishing(message, as: body) }
        var properties = MessageProperties()
        properties.contentType = "application/json"
        properties.deliveryMode = 2
        properties.type = "seedream.ledger"
        properties.appID = "seedream-worker"
        properties.userID = state.withLockedValue { $0.user }.map { ByteString($0) }
        return OutboundMessage(routingKey: options.stream.name, properties: properties, body: body)
    }
}
