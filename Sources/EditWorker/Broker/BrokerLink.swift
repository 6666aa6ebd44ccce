package import Logging
import NIOConcurrencyHelpers
package import RabbitMQ
import SharedValues
import Telemetry

/// What a connection to the broker is for, as its name, the metrics and `/readyz` say it.
package enum BrokerRole: String, Sendable, CaseIterable {
    case consumer
    case publisher
    case ledger
}

/// Keeps one connection to the broker, and what it is used for: connects, and connects again whenever it is lost.
package actor BrokerLink<Session: AnyObject & Sendable> {
    /// Makes of each new connection what is handed out; what it throws ends the connection, and another is tried.
    package typealias Setup = @Sendable (AMQPConnection) async throws(AMQPError) -> Session

    /// Looking for a queue costs a healthy broker little, and the person who makes it waits for us.
    ///
    /// So do all jobs for the leader of a stream or a queue that is being elected.
    private static var longestWaitForQueues: Duration { .seconds(2) }
    /// The longest wait for a node that could not be reached before, while another may be: a frozen one costs all of it each time.
    private static var longestWaitForSilentNode: Duration { .seconds(3) }
    private static var mostEarlyRenewals: Int { 3 }
    /// Between two attempts that do not wait: two links whose connections break at once would urge each other on for ever.
    private static var hurryInterval: Duration { .seconds(5) }
    /// A connection that lived longer was of some use.
    private static var shortestUse: Duration { .milliseconds(250) }

    private let options: AMQPConnectionOptions
    private let role: BrokerRole
    private let setup: Setup
    private let health: WorkerHealth
    private let logger: Logger

    private nonisolated let shared = NIOLockedValueBox<Session?>(nil)
    /// Connections that were given up young, since the last one that was not.
    private var earlyRenewals = 0
    private var connection: AMQPConnection?
    private var waiters = Waiters<Session?>()
    /// Whoever waits for an attempt to connect; a broker that accepts and says nothing must not hold up a drain.
    private var attempts = Waiters<Result<AMQPConnection, AMQPError>?>()
    private var openedAt = ContinuousClock.now
    private var isStopped = false
    private var isReleased = false
    private var hasConnected = false
    private var lastFault: String?
    /// The wait before the next attempt.
    private var pausing: Task<Void?, Never>?
    private var nodes: NodeRotation
    /// That of the last attempt.
    private var node: AMQPURL?
    /// Whether the node of the last attempt could be reached.
    private var isReached = false
    private var hurriedAt: ContinuousClock.Instant?

    /// A link that is not connected until `run`.
    ///
    /// `name` is the worker's `HOST:PID`.
    package init(
        urls: [AMQPURL],
        options: AMQPConnectionOptions,
        role: BrokerRole,
        health: WorkerHealth,
        logger: Logger,
        setup: @escaping Setup
    ) {
        nodes = NodeRotation(urls)
        self.options = options
        self.role = role
        self.health = health
        self.logger = logger
        self.setup = setup
    }

    /// Connects, again and again, until `stop` or cancellation.
    ///
    /// With `failFast` a failure before the first connection is thrown instead of logged; later there are jobs in flight,
    /// which must not be ended for it. `onOpen` hears of each connection where it leads to.
    package func run(
        failFast: Bool,
        onOpen: @Sendable (AMQPURL) -> Void = { _ in }
    ) async throws(AMQPError) {
        var mustEnd = failFast
        var backoff = ReconnectBackoff()
        while !isStopped, !Task.isCancelled {
            var isNearlyThere = false
            let url = nodes.take(at: .now)
            node = url
            do throws(AMQPError) {
                guard let connection = try await open(url) else { break }
                nodes.forgetPreference()
                nodes.note(url, isReached: true, at: .now)
                onOpen(url)
                let end = await watch(connection, at: url)
                // One that the broker ends at once has brought nothing: the wait goes on growing.
                let isStable = ContinuousClock.now - openedAt > Self.shortestUse
                if isStable {
                    backoff.reset()
                } else if mustEnd, let end, !end.isRetriable {
                    throw end
                }
                mustEnd = false
            } catch {
                if mustEnd { throw error }
                report(error, at: url)
                nodes.note(url, isReached: isReached, at: .now)
                // What a broker refuses that answers may be there in a moment: a queue, a leader, a right.
                isNearlyThere = isReached || error.code == .notFound
            }
            guard !isStopped else { break }
            let wait = backoff.next()
            guard !nodes.hasPreference else { continue }
            await pause(for: isNearlyThere ? min(wait, Self.longestWaitForQueues) : wait)
        }
        stopWaiting()
    }

    /// Waits, unless the link is stopped or its task cancelled meanwhile.
    private func pause(for wait: Duration) async {
        let sleep = Task { try? await Task.sleep(for: wait) }
        pausing = sleep
        await withTaskCancellationHandler {
            _ = await sleep.value
        } onCancel: {
            sleep.cancel()
        }
        pausing = nil
    }

    /// What is connected at the moment; from any thread, without waiting for the link.
    package private(set) nonisolated var current: Session? {
        get { shared.withLockedValue { $0 } }
        set { shared.withLockedValue { $0 = newValue } }
    }

    /// What is connected, or nil once the link has stopped; waits as long as nothing is.
    package func session() async -> Session? {
        if let current { return current }
        guard !isStopped, !isReleased else { return nil }
        let ticket = waiters.ticket()
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if Task.isCancelled || isStopped || isReleased {
                    continuation.resume(returning: nil)
                } else if let current {
                    continuation.resume(returning: current)
                } else {
                    waiters.add(continuation, as: ticket)
                }
            }
        } onCancel: {
            Task { await self.dropWaiter(ticket) }
        }
    }

    /// Closes the connection in good order and stops the link.
    package func stop() async {
        isStopped = true
        stopWaiting()
        pausing?.cancel()
        for attempt in attempts.removeAll() { attempt.resume(returning: nil) }
        guard current != nil else {
            // It is being set up, perhaps by a broker that does not answer: nothing is lost with it.
            Task { [connection] in await connection?.close() }
            return
        }
        current = nil
        await connection?.close()
    }

    /// Sends away all who wait for a connection, and all who come: no one needs a new one.
    ///
    /// An existing one goes on.
    package func release() {
        isReleased = true
        stopWaiting()
    }

    /// Hands out a session no longer that turned out to be broken.
    package func discard(_ session: Session) {
        if current === session { current = nil }
    }

    /// Ends a connection on which the broker goes on refusing, so that a new one takes its place.
    ///
    /// Nacks may outlive a lifted length policy on an open channel, and a channel that was opened while a quorum queue
    /// had no leader may go on refusing. Not more often than every 30 s, and a few times for a younger connection: a queue
    /// may as well really be full.
    package func renew(_ session: Session) async {
        let age = ContinuousClock.now - openedAt
        guard current === session, age > .seconds(2) else { return }
        if age > .seconds(30) {
            earlyRenewals = 0
        } else {
            guard earlyRenewals < Self.mostEarlyRenewals else { return }
            earlyRenewals += 1
        }
        current = nil
        await connection?.close()
    }

    /// Gives up the connection, so that another node is taken: this one does not answer.
    package func leaveNode() {
        guard let connection else { return }
        if let node { nodes.leave(node, at: .now) }
        current = nil
        // Not waited for: what it waits for may be the node.
        Task { await connection.close() }
    }

    /// Tries that node at once, unless there is a connection: another link has just reached it.
    ///
    /// After a failure the wait may have grown to half a minute, though the cluster is there again.
    func hurry(to url: AMQPURL) {
        guard current == nil, hurriedAt.map({ ContinuousClock.now - $0 > Self.hurryInterval }) ?? true else { return }
        guard nodes.prefer(url, at: .now) else { return }
        hurriedAt = .now
        pausing?.cancel()
    }

    /// As `release`, unless there has been a connection: jobs may be in flight then, which need the next.
    package func releaseBeforeFirst() {
        if !hasConnected { release() }
    }

    private func dropWaiter(_ ticket: Int) {
        waiters.remove(ticket)?.resume(returning: nil)
    }

    private func stopWaiting() {
        for waiter in waiters.removeAll() { waiter.resume(returning: nil) }
    }

    /// Nil if the link was stopped meanwhile.
    private func open(_ url: AMQPURL) async throws(AMQPError) -> AMQPConnection? {
        isReached = false
        guard let connection = try await connect(to: url) else { return nil }
        isReached = true
        // For `stop`, too: what is set up may wait for a broker that blocks.
        self.connection = connection
        let session: Session
        do throws(AMQPError) {
            session = try await setup(connection)
        } catch {
            self.connection = nil
            await connection.close()
            throw error
        }
        guard !isStopped else {
            await connection.close()
            return nil
        }
        current = session
        hasConnected = true
        openedAt = .now
        health.connected(role)
        logger.log(.info, "connected to the broker", [.role: role.rawValue, .broker: url.redacted])
        for waiter in waiters.removeAll() { waiter.resume(returning: session) }
        return connection
    }

    /// Nil if the link is stopped before the attempt has come to its end, which then goes on for itself.
    private func connect(to url: AMQPURL) async throws(AMQPError) -> AMQPConnection? {
        guard !isStopped else { return nil }
        var options = options
        if nodes.hasBetter(than: url) {
            options.connectTimeout = min(options.connectTimeout, Self.longestWaitForSilentNode)
        }
        let ticket = attempts.ticket()
        let outcome = await withCheckedContinuation { continuation in
            attempts.add(continuation, as: ticket)
            Task { [options] in
                let result: Result<AMQPConnection, AMQPError>
                do throws(AMQPError) {
                    result = .success(try await AMQPConnection.open(url, options: options))
                } catch {
                    result = .failure(error)
                }
                if let waiter = attempts.remove(ticket) {
                    waiter.resume(returning: result)
                } else if case .success(let late) = result {
                    await late.close()
                }
            }
        }
        return try outcome?.get()
    }

    /// Follows the connection until it ends.
    private func watch(_ connection: AMQPConnection, at url: AMQPURL) async -> AMQPError? {
        for await event in connection.events {
            switch event {
            case .blocked(let reason):
                health.blocked(role, reason)
                logger.log(.warning, "the broker blocks publishing", [.role: role.rawValue, .reason: reason])
            case .unblocked:
                health.blocked(role, nil)
                logger.log(.info, "the broker lets us publish again", [.role: role.rawValue])
            case .consumerCancelled:
                logger.log(.warning, "the broker cancelled the consumer", [.role: role.rawValue])
            case .closed(let error):
                forget()
                guard !isStopped else { return error }
                if ContinuousClock.now - openedAt > Self.shortestUse { lastFault = nil }
                report(error, at: url)
                return error
            }
        }
        forget()
        health.lost(role, fault: nil)
        return nil
    }

    private func forget() {
        current = nil
        connection = nil
    }

    /// One line for each change: a broker that is down for an hour says so once.
    private func report(_ error: AMQPError, at url: AMQPURL) {
        guard !isStopped else { return }
        health.lost(role, fault: error.shortDescription)
        // The words differ from attempt to attempt, and from node to node; of queues each is news.
        let isAboutQueue = error.code == .notFound || error.code == .preconditionFailed
        let cause = isAboutQueue ? error.message : error.shortDescription
        guard cause != lastFault else { return }
        lastFault = cause
        logger.log(
            .warning,
            "no connection to the broker; trying again",
            [
                .role: role.rawValue, .broker: url.redacted, .error: error.message, .code: error.shortDescription,
                .remedy: error.remedy,
            ]
        )
    }
}
