package import EditWorker
import FoundationEssentials
import Journal
import RabbitMQ

/// The jobs that wait in the job queue and its retry queues, for a person who needs their ids.
package struct WaitingJobs {
    /// Jobs that were met.
    package struct Count: Hashable, Sendable {
        package var named = 0
        /// Without a `message_id`: nobody can say which one is meant.
        package var anonymous = 0
    }

    /// Jobs of the job queue that are held at once, with their bodies.
    private static let batch = 500

    private let queues: JobQueues
    private let access: BrokerAccess
    package private(set) var count = Count()

    package init(_ queues: JobQueues, over access: BrokerAccess) {
        self.queues = queues
        self.access = access
    }

    /// Calls `body` with the keys of all jobs that wait, some at a time; each stays in its queue.
    ///
    /// Throws `AMQPError`, or what `body` throws.
    package mutating func each(
        isolation: isolated (any Actor)? = #isolation,
        _ body: ([String]) async throws -> Void
    ) async throws {
        try await walk(queues.jobs, inBatchesOf: Self.batch, body)
        // What is given back there goes on waiting, and comes to the job queue as if nobody had looked.
        for queue in queues.retries { try await walk(queue.name, inBatchesOf: nil, body) }
    }

    /// Without batches all are held at once, without their bodies, and given back.
    private mutating func walk(
        _ queue: ByteString,
        inBatchesOf size: Int?,
        isolation: isolated (any Actor)? = #isolation,
        _ body: ([String]) async throws -> Void
    ) async throws {
        var left = try await access.withConnection(for: "look") {
            Int(try await $0.inspect(queue: queue).messageCount)
        }
        while left > 0, !Task.isCancelled {
            let connection = try await access.open(for: "jobs") { url, options in
                var options = options
                options.largestBody = size == nil ? 0 : nil
                return try await AMQPConnection.open(url, options: options)
            }
            do {
                let jobs = try await Self.take(min(size ?? left, left), from: queue, on: connection)
                let named = jobs.filter { !$0.isAnonymous }
                count.named += named.count
                count.anonymous += jobs.count - named.count
                try await body(named.map(\.key))
                if size != nil { try await Self.replace(jobs, on: queue, over: connection) }
                left = jobs.isEmpty || size == nil ? 0 : left - jobs.count
            } catch {
                await connection.close()
                throw error
            }
            await connection.close()
        }
    }

    /// Takes jobs without an acknowledgement; fewer if no more are there.
    private static func take(
        _ count: Int,
        from queue: ByteString,
        on connection: AMQPConnection,
        isolation: isolated (any Actor)? = #isolation
    ) async throws -> [ReceivedJob] {
        let consumer = try await connection.consume(from: queue, prefetch: UInt16(exactly: count) ?? 0)
        let watch = Task {
            repeat {
                try await Task.sleep(for: .milliseconds(200))
            } while try await connection.inspect(queue: queue)
                .messageCount > 0
            try await consumer.cancel()
        }
        defer { watch.cancel() }
        var jobs: [ReceivedJob] = []
        // Goes on to the end of the consumer, so that nothing comes once the copies are there.
        for await delivery in consumer.deliveries {
            jobs.append(ReceivedJob(delivery, freshID: { UUID().uuidString.lowercased() }))
            if jobs.count == count { try await consumer.cancel() }
        }
        guard connection.isOpen else {
            throw AMQPError(.connectionLost, "the connection was lost while \(queue) was looked at")
        }
        return jobs
    }

    /// Puts copies in the place of jobs that are held: what is given back counts as delivered before, and may be in doubt.
    private static func replace(
        _ jobs: [ReceivedJob],
        on queue: ByteString,
        over connection: AMQPConnection,
        isolation: isolated (any Actor)? = #isolation
    ) async throws {
        let copies = JobCopy(frameMax: await connection.frameMax)
        let publisher = JobPublisher<ReceivedJob>(try await connection.makePublisher()) { job, fault in
            if let fault {
                throw AMQPError(.closedByBroker, "the broker does not take back a job of \(queue): \(fault)")
            }
            _ = job.delivery.acknowledge()
        }
        for job in jobs {
            var headers: FieldTable = [:]
            if job.wasDeliveredBefore { headers[JobHeader.deliveredBefore] = .boolean(true) }
            if job.awaitsVerdict { headers[JobHeader.awaitsVerdict] = .boolean(true) }
            if job.mark.isInDoubt, !job.wasDeliveredBefore { headers[JobHeader.inDoubt] = .boolean(true) }
            let copy = copies.message(of: job, to: queue, adding: headers)
            var properties = copy.properties
            properties.expiration = job.delivery.properties.expiration
            let message = OutboundMessage(routingKey: queue, properties: properties, body: copy.body)
            try await publisher.publish(message, for: job)
        }
        try await publisher.finish()
    }
}
