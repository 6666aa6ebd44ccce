package import EditWorker
import FoundationEssentials
import Journal
package import Ledger
import RabbitMQ

/// The jobs that wait in the job queue and its retry queues, for a person who wants to cancel them.
package struct WaitingJobs {
    /// Jobs that were met.
    package struct Count: Hashable, Sendable {
        package var named = 0
        /// Without a `message_id`: such a job cannot be named.
        package var anonymous = 0
        /// Queues that could not be looked at, or not whole.
        package var missing: [String] = []
    }

    /// Bytes of bodies that are held at most.
    ///
    /// A queue's jobs are held until all of them are seen: what was put back before that would be met again, and from RabbitMQ 4
    /// on jobs of a high priority for ever.
    private static let mostBytes = 1 << 29
    /// Jobs that are handed to `body` at once.
    private static let batch = 500

    private let queues: JobQueues
    private let access: BrokerAccess
    package private(set) var count = Count()

    package init(_ queues: JobQueues, over access: BrokerAccess) {
        self.queues = queues
        self.access = access
    }

    /// Calls `body` with all jobs that wait, some at a time; each stays in its queue.
    ///
    /// Throws `AMQPError`, `notFound` if there is no job queue, or what `body` throws.
    package mutating func each(
        isolation: isolated (any Actor)? = #isolation,
        _ body: ([CancelledJob]) async throws -> Void
    ) async throws {
        // In the way that jobs take, and once more for those that went back meanwhile. What is given back in a retry queue goes on
        // waiting, and comes to the job queue as if it had never been looked at.
        for queue in queues.retries { try await walkRetries(queue.name, isFirst: true, body) }
        try await walk(queues.jobs, keepsBodies: true, body)
        for queue in queues.retries { try await walkRetries(queue.name, isFirst: false, body) }
    }

    private mutating func walkRetries(
        _ queue: ByteString,
        isFirst: Bool,
        isolation: isolated (any Actor)? = #isolation,
        _ body: ([CancelledJob]) async throws -> Void
    ) async throws {
        let before = count
        do {
            try await walk(queue, keepsBodies: false, body)
        } catch let error as AMQPError where error.code == .notFound {
            // The workers have other delays than this command.
            if isFirst { count.missing.append(queue.text) }
        }
        if !isFirst { count = before }
    }

    private mutating func walk(
        _ queue: ByteString,
        keepsBodies: Bool,
        isolation: isolated (any Actor)? = #isolation,
        _ body: ([CancelledJob]) async throws -> Void
    ) async throws {
        let waiting = try await access.withConnection(for: "look") {
            Int(try await $0.inspect(queue: queue).messageCount)
        }
        guard waiting > 0 else { return }
        let connection = try await access.open(for: "jobs") { url, options in
            var options = options
            options.largestBody = keepsBodies ? nil : 0
            return try await AMQPConnection.open(url, options: options)
        }
        access.watch(connection)
        do {
            let (jobs, isWhole) = try await Self.take(waiting, from: queue, on: connection)
            if !isWhole { count.missing.append(queue.text) }
            let named = jobs.filter { !$0.isAnonymous }
            count.named += named.count
            count.anonymous += jobs.count - named.count
            for start in stride(from: 0, to: named.count, by: Self.batch) {
                let part = named[start..<min(start + Self.batch, named.count)]
                try await body(part.map { CancelledJob(id: $0.key, replay: $0.replayCount) })
            }
            if keepsBodies { try await Self.replace(jobs, on: queue, over: connection) }
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
    }

    /// Takes jobs without an acknowledgement, until no more are there, or until there are more than `count` by as many as may come
    /// meanwhile; false if they are too large to be held.
    private static func take(
        _ count: Int,
        from queue: ByteString,
        on connection: AMQPConnection,
        isolation: isolated (any Actor)? = #isolation
    ) async throws -> (jobs: [ReceivedJob], isWhole: Bool) {
        let most = count + max(1000, count / 4)
        // No limit would be one of 2000 at a quorum queue, and the rest would never come.
        let consumer = try await connection.consume(from: queue, prefetch: UInt16(clamping: most))
        for _ in 0..<most / Int(UInt16.max) { try await consumer.raisePrefetch(by: .max) }
        let watch = Task {
            repeat {
                try await Task.sleep(for: .milliseconds(200))
            } while try await connection.inspect(queue: queue)
                .messageCount > 0
            try await consumer.cancel()
        }
        defer { watch.cancel() }
        var (jobs, bytes, isEnding) = ([ReceivedJob](), 0, false)
        // Goes on to the end of the consumer, so that nothing comes once the copies are there.
        for await delivery in consumer.deliveries {
            jobs.append(ReceivedJob(delivery, freshID: { UUID().uuidString.lowercased() }))
            bytes += delivery.body.count
            guard !isEnding, jobs.count >= most || bytes > mostBytes || Task.isCancelled else { continue }
            isEnding = true
            try await consumer.cancel()
        }
        guard connection.isOpen else {
            throw AMQPError(.connectionLost, "the connection was lost while \(queue) was looked at")
        }
        return (jobs, bytes <= mostBytes && !Task.isCancelled)
    }

    /// Puts copies in the place of jobs that are held: what is given back counts as delivered before, and may be in doubt.
    private static func replace(
        _ jobs: [ReceivedJob],
        on queue: ByteString,
        over connection: AMQPConnection,
        isolation: isolated (any Actor)? = #isolation
    ) async throws {
        let copies = JobCopy(frameMax: await connection.frameMax)
        // Few at a time: a kill leaves those that are on their way twice.
        let publisher = JobPublisher<ReceivedJob>(try await connection.makePublisher(), depth: 64) { job, fault in
            if let fault {
                throw AMQPError(.closedByBroker, "the broker does not take back a job of \(queue): \(fault)")
            }
            _ = job.delivery.acknowledge()
        }
        do {
            // First those that would be in doubt if they were given back: an interruption leaves the others.
            for job in jobs.filter(\.isAnonymous) + jobs.filter({ !$0.isAnonymous }) {
                guard !Task.isCancelled || job.isAnonymous else { break }
                var headers: FieldTable = [:]
                if job.wasDeliveredBefore { headers[JobHeader.deliveredBefore] = .boolean(true) }
                if job.awaitsVerdict { headers[JobHeader.awaitsVerdict] = .boolean(true) }
                if job.delivery.properties.headers?[JobHeader.inDoubt] == .boolean(true) {
                    headers[JobHeader.inDoubt] = .boolean(true)
                }
                let copy = copies.message(of: job, to: queue, adding: headers)
                var properties = copy.properties
                properties.expiration = job.delivery.properties.expiration
                let message = OutboundMessage(routingKey: queue, properties: properties, body: copy.body)
                try await publisher.publish(message, for: job)
            }
            try await publisher.finish()
        } catch {
            // Those behind the one that failed may be there all the same, and must not be there twice.
            await publisher.abandon()
            throw error
        }
    }
}
