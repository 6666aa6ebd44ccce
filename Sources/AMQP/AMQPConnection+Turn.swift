import NIOConcurrencyHelpers
import ThreadExecutor

// What the connection's thread does at each of its turns: read, write, acknowledge, keep deadlines.

extension AMQPConnection {
    /// Reads all that is there, does all that was asked, and tells how long to wait.
    func turn() -> SocketThread.Wait {
        guard socket != nil else { return .forWork }
        do {
            try receive()
            try runCommands()
            try flushAcknowledgements()
            try checkDeadlines()
        } catch {
            end(error)
            return .forWork
        }
        guard let socket, !isFull else { return .forWork }
        return SocketThread.Wait(descriptor: socket.descriptor, milliseconds: longestWait(socket))
    }

    /// Half a heartbeat, because librabbitmq sends ours only as it reads; shorter where a confirm is due.
    func longestWait(_ socket: BrokerSocket) -> Int32? {
        var wait: Duration? = socket.negotiatedHeartbeat > 0 ? .milliseconds(socket.negotiatedHeartbeat * 500) : nil
        if let due = nextDeadline, !isBlocked {
            let left = max(.zero, ContinuousClock.now.duration(to: due))
            wait = min(wait ?? left, left)
        }
        // Rounded up: a wait that ends before the deadline would be taken again and again.
        return wait.map { Int32(clamping: Int64(($0 / .milliseconds(1)).rounded(.up))) }
    }

    /// Whether so many deliveries wait that the rest is better left with the broker.
    var isFull: Bool {
        guard let most = options.mostUntaken else { return false }
        return untaken.withLockedValue { $0 >= most }
    }

    func receive() throws(AMQPError) {
        while !isFull, let event = try socket?.nextEvent() {
            try handle(event)
            // After each: the first read of a new consumer has thousands of deliveries.
            socket?.releaseFrames()
        }
    }

    func handle(_ event: BrokerEvent) throws(AMQPError) {
        switch event {
        case .delivery(let consumer, let delivery):
            let consumer = consumers[consumer]
            if consumer?.acknowledges == false {
                // Nothing is owed; and RabbitMQ gives all direct replies of a channel the same tag.
                if acknowledgements.opened(delivery.tag.number) { _ = acknowledgements.remove(delivery.tag.number) }
            } else if !acknowledgements.opened(delivery.tag.number) {
                throw AMQPError(.protocolViolation, "the broker skipped a delivery tag")
            }
            if options.mostUntaken != nil { untaken.withLockedValue { $0 += 1 } }
            consumer.flatMap { streams[$0.subscription] }?.yield(delivery)
        case .returned(let message, let replyCode, let replyText):
            markReturned(message, .returned(replyCode: replyCode, replyText: replyText))
        case .confirmed(let number, let multiple):
            for publish in confirms.settle(number, multiple: multiple) {
                publish.publishing.resume(.success(publish.returned ?? .confirmed))
            }
        case .refused(let number, let multiple):
            for publish in confirms.settle(number, multiple: multiple) {
                publish.publishing.resume(.success(.refused))
            }
        case .consumerCancelled(let consumer):
            removeConsumer(consumer)
            watcher.yield(.consumerCancelled)
        case .blocked(let reason):
            isBlocked = true
            watcher.yield(.blocked(reason: reason))
        case .unblocked:
            isBlocked = false
            unblockedAt = .now
            watcher.yield(.unblocked)
        case .channelClosed(let error), .connectionClosed(let error):
            throw error
        }
    }

    /// A return has no number.
    ///
    /// It comes before its message's confirm and in the order of publishing, so it belongs to
    /// the oldest unanswered message that looks the same.
    func markReturned(_ message: OutboundMessage, _ result: PublishResult) {
        _ = confirms.updateFirst { pending in
            let sent = pending.publishing.message
            return pending.returned == nil && sent.mandatory && sent.routingKey == message.routingKey
                && sent.exchange == message.exchange && sent.properties.messageID == message.properties.messageID
                && sent.body == message.body
        } _: { pending in
            pending.returned = result
        }
    }

    func runCommands() throws(AMQPError) {
        var commands = mailbox.withLockedValue { box in
            let commands = box.commands
            box.commands.removeAll(keepingCapacity: true)
            return commands
        }
        if isBlocked {
            // Writing to a broker that does not read would park the thread, and with it the heartbeats.
            held += commands.filter(\.isPublish)
            commands.removeAll(where: \.isPublish)
        } else if !held.isEmpty {
            commands = held + commands
            held = []
        }
        // A turn's messages leave together: sending, and the broker's waking up, cost more than all of librabbitmq's work.
        let isBatch = commands.count > 1 && commands.contains(where: \.isPublish)
        if isBatch { socket?.holdWrites() }
        defer { if isBatch { socket?.releaseWrites() } }
        for (index, command) in commands.enumerated() {
            switch command {
            case .acknowledge(let number):
                _ = acknowledgements.settle(number)
                socket?.settled(number)
            case .reject(let number, let requeue):
                guard acknowledgements.remove(number) else { continue }
                socket?.settled(number)
                do {
                    try socket?.reject(number, requeue: requeue)
                    lastSettledAt = .now
                } catch {
                    Self.fail(commands[(index + 1)...], with: error)
                    throw error
                }
            case .publish(let publishing):
                let message = publishing.message
                // Before anything is written: half a message would end the connection, and all others with it.
                guard message.properties.fits(frameMax: frameMax), message.routingKey.bytes.count <= 255 else {
                    publishing.resume(.failure(Self.tooLargeError))
                    continue
                }
                confirms.append(PendingPublish(publishing: publishing, deadline: .now + options.confirmTimeout))
                do {
                    try socket?.publish(message)
                } catch {
                    // The rest of the turn's commands must not wait for an answer that nobody will give.
                    Self.fail(commands[(index + 1)...], with: error)
                    throw error
                }
            }
        }
    }

    func flushAcknowledgements() throws(AMQPError) {
        let frames = acknowledgements.flush()
        guard !frames.isEmpty else { return }
        for acknowledgement in frames { try socket?.acknowledge(acknowledgement) }
        lastSettledAt = .now
    }

    func checkDeadlines() throws(AMQPError) {
        guard !isBlocked, let due = nextDeadline, due <= .now else { return }
        throw AMQPError(.timedOut, "the broker did not confirm a message within \(options.confirmTimeout)")
    }

    /// When the oldest message without an answer is given up; the time in which the broker blocks does not count.
    var nextDeadline: ContinuousClock.Instant? {
        confirms.oldest.map { max($0.deadline, unblockedAt + options.confirmTimeout) }
    }

    func onSocket<Result>(
        _ body: (BrokerSocket) throws(AMQPError) -> Result
    ) throws(AMQPError) -> Result {
        guard let socket else { throw Self.closedError }
        defer {
            // Otherwise librabbitmq keeps the frames of every answer until the next event, and a connection that only asks
            // has none.
            socket.releaseFrames()
            // The answer may have been read together with deliveries, which `poll` no longer sees.
            thread.wake()
        }
        do {
            return try body(socket)
        } catch {
            if !socket.isUsable { end(error) }
            throw error
        }
    }

    /// Ends the connection: whoever waits on it hears of it, once.
    func end(_ error: AMQPError) {
        socket = nil
        let commands = mailbox.withLockedValue { box in
            box.isClosed = true
            defer { box.commands = [] }
            return box.commands
        }
        Self.fail((held + commands)[...], with: error)
        held = []
        for publish in confirms.settleAll() {
            publish.publishing.resume(.failure(error))
        }
        for stream in streams.values { stream.finish() }
        streams = [:]
        consumers = [:]
        watcher.yield(.closed(error))
        watcher.finish()
    }

    static func fail(_ commands: ArraySlice<Command>, with error: AMQPError) {
        for case .publish(let publishing) in commands { publishing.resume(.failure(error)) }
    }
}
