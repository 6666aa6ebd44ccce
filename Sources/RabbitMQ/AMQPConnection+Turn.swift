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
            // A turn's frames leave together.
            try socket?.flush()
            try checkDeadlines()
        } catch {
            end(error)
            return .forWork
        }
        guard let socket, consuming.readAhead?.isFull != true else { return .forWork }
        return SocketThread.Wait(descriptor: socket.descriptor, milliseconds: longestWait(socket))
    }

    /// Half a heartbeat, because librabbitmq sends ours only as it reads; shorter where a confirm is due.
    private func longestWait(_ socket: BrokerSocket) -> Int32? {
        var wait: Duration? = socket.negotiatedHeartbeat > 0 ? .milliseconds(socket.negotiatedHeartbeat * 500) : nil
        if let due = nextDeadline, !publishing.isBlocked {
            let left = max(.zero, ContinuousClock.now.duration(to: due))
            wait = min(wait ?? left, left)
        }
        // Rounded up: a wait that ends before the deadline would be taken again and again.
        return wait.map { Int32(clamping: Int64(($0 / .milliseconds(1)).rounded(.up))) }
    }

    func receive() throws(AMQPError) {
        while consuming.readAhead?.isFull != true, let event = try socket?.nextEvent() {
            try handle(event)
            // After each: the first read of a new consumer has thousands of deliveries.
            socket?.releaseFrames()
        }
    }

    private func handle(_ event: BrokerEvent) throws(AMQPError) {
        switch event {
        case .delivery(let consumer, let delivery): try deliver(delivery, to: consumer)
        case .returned(let message, let replyCode, let replyText):
            returned(message, .returned(replyCode: replyCode, replyText: replyText))
        case .confirmed(let number, let multiple): confirmed(number, multiple: multiple)
        case .refused(let number, let multiple): refused(number, multiple: multiple)
        case .consumerCancelled(let tag):
            guard let consumer = consuming.registrations[tag]?.consumer else { return }
            consuming.cancelledByBroker.insert(consumer)
            // All that bring its deliveries: the rest would keep it going without what is sent to this one.
            for (other, registration) in consuming.registrations where registration.consumer == consumer {
                forgetConsumer(other)
            }
            watcher.yield(.consumerCancelled)
        case .blocked(let reason):
            publishing.isBlocked = true
            mailbox.withLockedValue { $0.isBlocked = true }
            watcher.yield(.blocked(reason: reason))
        case .unblocked:
            publishing.isBlocked = false
            mailbox.withLockedValue { $0.isBlocked = false }
            publishing.unblockedAt = .now
            watcher.yield(.unblocked)
        case .channelClosed(let error), .connectionClosed(let error):
            throw error
        }
    }

    func runCommands() throws(AMQPError) {
        let commands = takeCommands()
        for (index, command) in commands.enumerated() {
            do {
                switch command {
                case .acknowledge(let number): settle(number)
                case .reject(let number, let requeue): try sendRejection(number, requeue: requeue)
                case .publish(let publishing): try send(publishing)
                }
            } catch {
                // The rest of the turn's commands must not wait for an answer that never comes.
                Self.fail(commands[(index + 1)...], with: error)
                throw error
            }
        }
    }

    /// The commands for this turn.
    ///
    /// Those that publish wait while the broker does not read: writing would park the thread, and with it the heartbeats.
    private func takeCommands() -> [Command] {
        var commands = mailbox.withLockedValue { box in
            let commands = box.commands
            box.commands.removeAll(keepingCapacity: true)
            return commands
        }
        if publishing.isBlocked {
            publishing.held += commands.filter(\.isPublish)
            commands.removeAll(where: \.isPublish)
        } else if !publishing.held.isEmpty {
            commands = publishing.held + commands
            publishing.held = []
        }
        return commands
    }
}
