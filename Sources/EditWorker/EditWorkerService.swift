package import Journal
package import Logging
package import RabbitMQ
import Telemetry

/// Takes jobs from the queue and runs each through the pipeline, until it is told to drain.
package struct EditWorkerService: Sendable {
    private let links: BrokerLinks
    private let journal: any SubmissionJournal
    private let queue: ByteString
    private let prefetch: UInt16
    private let gate: Gate
    private let pipeline: JobPipeline
    private let beside: [SideIntake]
    private let executor: any TaskExecutor
    private let failFast: Bool
    private let health: WorkerHealth
    private let logger: Logger

    /// A worker over links and a journal, which it runs and stops.
    ///
    /// Jobs run on `executor`; the intakes `beside` take from the other queues. With `failFast` the first failure to connect ends
    /// it, instead of being tried again for ever.
    package init(
        links: BrokerLinks,
        journal: any SubmissionJournal,
        queue: ByteString,
        prefetch: UInt16,
        gate: Gate,
        pipeline: JobPipeline,
        beside: [SideIntake] = [],
        executor: any TaskExecutor,
        failFast: Bool,
        health: WorkerHealth,
        logger: Logger
    ) {
        self.links = links
        self.journal = journal
        self.queue = queue
        self.prefetch = prefetch
        self.gate = gate
        self.pipeline = pipeline
        self.beside = beside
        self.executor = executor
        self.failFast = failFast
        self.health = health
        self.logger = logger
    }

    /// Runs until a drain has come to its end.
    package func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await links.run(failFast: failFast) }
            // On the jobs' thread: those that a change wakes, for a start that is over in a moment, run there too.
            let fleet = Task(executorPreference: executor) {
                await gate.followFleet { Task { await links.leaveNode() } }
            }
            defer { fleet.cancel() }
            group.addTask {
                async let others: Void = takeBeside()
                await withTaskExecutorPreference(executor) { await takeJobs() }
                await others
                await journal.close()
                await links.stop()
            }
            // Not `waitForAll`, which hears of a failure only once all have ended.
            while try await group.next() != nil {}
        }
    }

    /// Takes no more jobs, finishes those in flight, and closes the connections; `run` ends then.
    package func drain() async {
        logger.log(.info, "draining: no more jobs are taken")
        health.draining()
        gate.drain()
        // Wakes the intake if it waits for a connection that may never come.
        await links.release()
    }

    private func takeBeside() async {
        await withDiscardingTaskGroup { group in
            for intake in beside { group.addTask { await intake.run(over: links, until: gate) } }
        }
    }

    /// Ends when the drain has begun and every job that was taken has its end.
    private func takeJobs() async {
        // A job that is paid for must be told: none is taken before there has been a connection to tell it on.
        guard await links.publisher.session() != nil else { return }
        // Nor before it is known what the others have submitted.
        await gate.untilDrain {
            await journal.waitUntilReady()
            await gate.waitUntilFleetIsHeard()
        }
        var earlier: [JobsInFlight] = []
        await withDiscardingTaskGroup { jobs in
            while !Task.isCancelled {
                switch gate.intake() {
                case .ended: return
                case .none(let until): await gate.wait(until: until)
                case .all:
                    earlier.removeAll { $0.count == 0 }
                    let mine = JobsInFlight()
                    await takeAll(mine, beside: earlier) { job in jobs.addTask { await job() } }
                    earlier.append(mine)
                case .probe: if await gate.claimProbe() { await takeProbe() }
                }
            }
        }
    }

    /// Starts every job that comes, until the gate closes, the drain begins or the connection ends.
    ///
    /// The broker counts what is unacknowledged for each consumer by itself, so jobs of earlier consumers keep their
    /// places: this one begins with the room that they leave, and gets the rest once they have landed.
    private func takeAll(
        _ inFlight: JobsInFlight,
        beside earlier: [JobsInFlight],
        _ start: (@escaping @Sendable () async -> Void) -> Void
    ) async {
        let left = await earlier.leaveRoom(below: Int(prefetch))
        guard let consumer = await consume(prefetch: prefetch - UInt16(clamping: left)) else { return }
        let watch = Task {
            await gate.wait(whileIntakeIs: .all)
            try? await consumer.cancel()
        }
        if left > 0 {
            Task {
                for flight in earlier { await flight.wait(untilAtMost: 0) }
                try? await consumer.raisePrefetch(by: UInt16(clamping: left))
            }
        }
        // What the consumer had when it was cancelled comes too, and is given back by the gate.
        let pipeline = pipeline
        for await delivery in consumer.deliveries {
            inFlight.took()
            start {
                await pipeline.take(delivery)
                inFlight.landed()
            }
        }
        health.consuming(false)
        watch.cancel()
        await consumer.closeIfCancelled()
    }

    /// Takes one job to its end while the gate is closed: its outcome decides for all.
    private func takeProbe() async {
        guard let consumer = await consume(prefetch: 1) else { return }
        let watch = Task {
            await gate.wait(whileIntakeIs: .probe)
            try? await consumer.cancel()
        }
        for await delivery in consumer.deliveries {
            // Before the acknowledgement, or the next job would come.
            try? await consumer.cancel()
            await pipeline.take(delivery)
        }
        health.consuming(false)
        watch.cancel()
        await consumer.closeIfCancelled()
    }

    private func consume(prefetch: UInt16) async -> Consumer? {
        guard let connection = await links.consumer.session() else { return nil }
        do throws(AMQPError) {
            let consumer = try await connection.consume(from: queue, prefetch: prefetch)
            health.consuming(true)
            logger.log(.info, "consuming", [.queue: queue.text, .count: "\(prefetch)"])
            return consumer
        } catch {
            // A connection that is gone already has been reported by its link.
            if error.code != .closed {
                logger.log(.warning, "cannot consume", [.queue: queue.text, .error: "\(error)"])
            }
            await links.consumer.discard(connection)
            return nil
        }
    }
}

extension [JobsInFlight] {
    /// Waits until fewer than `limit` jobs are in flight; returns the count.
    fileprivate func leaveRoom(below limit: Int) async -> Int {
        while true {
            let counts = map(\.count)
            let total = counts.reduce(0, +)
            guard total >= limit, let busiest = counts.max(), let index = counts.firstIndex(of: busiest) else {
                return total
            }
            await self[index].wait(untilAtMost: busiest - 1)
        }
    }
}
