import EditJob
import EditWorker
import Journal
package import Ledger
package import RabbitMQ

/// Cancels jobs through the ledger, whose order settles the race with their submissions.
package struct JobCancellation {
    /// How far a job was when the order came.
    package struct Finding: Hashable, Sendable {
        package let progress: LedgerState.Progress
        /// The task of an accepted job.
        package let taskID: String?
    }

    /// Ids and their bytes in one message: far below what a replica takes.
    private static let mostInMessage = (ids: 1000, bytes: 64 << 10)

    private let stream: ByteString
    private let connection: AMQPConnection
    private let reason: String
    private var records: OperatorRecords
    /// The keys of the jobs, in the order in which they were cancelled.
    package private(set) var ids: [String] = []
    private var seen: Set<String> = []

    /// Begins to cancel; `writer` says who does, and `reason` why.
    ///
    /// Throws as `OperatorRecords`.
    package init(by writer: String, reason: String, in stream: ByteString, on connection: AMQPConnection) async throws {
        self.stream = stream
        self.connection = connection
        self.reason = JobCopy.cut(reason, to: 500)
        // Replicas that do not all take an order would not agree any more on which submissions have begun.
        records = try await OperatorRecords(by: writer, in: stream, on: connection, allMustHear: true)
    }

    /// Cancels jobs by their keys; the order stands when this returns.
    ///
    /// Throws `AMQPError`.
    package mutating func cancel(
        _ jobs: [CancelledJob],
        isolation: isolated (any Actor)? = #isolation
    ) async throws(AMQPError) {
        for part in Self.parts(of: jobs.filter { seen.insert($0.id).inserted }, { $0.id }) {
            try await records.write([.cancel(part, reason: reason)])
            ids += part.map(\.id)
        }
    }

    /// Lets jobs be submitted in spite of earlier orders.
    ///
    /// Throws `AMQPError`.
    package mutating func lift(
        _ jobs: [LiftedJob],
        isolation: isolated (any Actor)? = #isolation
    ) async throws(AMQPError) {
        for part in Self.parts(of: jobs, { $0.id }) { try await records.write([.lift(part)]) }
    }

    private static func parts<Job>(of jobs: [Job], _ id: (Job) -> String) -> [[Job]] {
        var parts: [[Job]] = []
        var bytes = 0
        for job in jobs {
            bytes += id(job).utf8.count + 60
            if parts.isEmpty || bytes > mostInMessage.bytes || parts[parts.count - 1].count >= mostInMessage.ids {
                parts.append([])
                bytes = id(job).utf8.count + 60
            }
            parts[parts.count - 1].append(job)
        }
        return parts
    }

    /// How far each job was when it was cancelled, as all replicas have it.
    ///
    /// Throws `AMQPError`.
    package func findings(
        isolation: isolated (any Actor)? = #isolation,
        progress: (Int) -> Void = { _ in }
    ) async throws(AMQPError) -> [String: Finding] {
        try await Self.read(Set(ids), in: stream, on: connection, fleet: records.fleet, orders: records, progress)
    }

    /// How far jobs are now; nothing is written.
    ///
    /// Throws `AMQPError`, `notFound` if there is no ledger.
    package static func look(
        at keys: [String],
        in stream: ByteString,
        on connection: AMQPConnection,
        isolation: isolated (any Actor)? = #isolation,
        progress: (Int) -> Void = { _ in }
    ) async throws(AMQPError) -> [String: Finding] {
        let fleet = try await FleetView.read(stream, on: connection)
        return try await read(Set(keys), in: stream, on: connection, fleet: fleet, orders: nil, progress)
    }

    /// Reads the ledger as the replicas do.
    private static func read(
        _ keys: Set<String>,
        in stream: ByteString,
        on connection: AMQPConnection,
        fleet: FleetView,
        orders: OperatorRecords?,
        isolation: isolated (any Actor)? = #isolation,
        _ progress: (Int) -> Void
    ) async throws(AMQPError) -> [String: Finding] {
        var state = LedgerState(retention: .max)
        var tasks: [String: String] = [:]
        var found: [String: Finding] = [:]
        func note(_ job: CancelledJob) {
            let progress = state.progress(of: job.id)
            // A replay that waits is cancelled whatever has become of the job before.
            let isWaitingReplay = job.replay ?? 0 > 0 && progress != .running
            found[job.id] = Finding(progress: isWaitingReplay ? .notSubmitted : progress, taskID: tasks[job.id])
        }
        var (next, read, own) = (Int64(-1), 0, Int64(0))
        let written = orders?.count ?? 0
        let deadline = ContinuousClock.now + .seconds(30)
        repeat {
            var counts = true
            let start = next < 0 ? StreamOffset.first : .at(next)
            func hear(writer: String?) { counts = fleet.counts(writer) }
            try await LedgerReader.read(stream, from: start, on: connection, writer: hear) { message, offset in
                guard offset >= next else { return }
                next = offset + 1
                read += 1
                progress(read)
                guard counts, !state.hasApplied(message) else { return }
                let isOrder = message.replica == orders?.name
                if isOrder { own += 1 }
                for record in message.records {
                    switch record {
                    case .cancel(let jobs, _) where isOrder: for job in jobs { note(job) }
                    case .end(let id, let end):
                        if case .accepted(let taskID, _) = end.verdict, keys.contains(id) { tasks[id] = taskID }
                    default: break
                    }
                }
                _ = state.apply(message, at: offset)
            }
            // What is confirmed is in the stream, and may be sent to readers a little later.
        } while own < written && .now < deadline && !Task.isCancelled
        guard orders != nil else {
            for id in keys { note(CancelledJob(id: id)) }
            return found
        }
        guard own >= written || Task.isCancelled else {
            throw AMQPError(
                .timedOut,
                "the jobs are cancelled, but the broker does not send the records that say so",
                remedy: "repeat the command to see which were too late"
            )
        }
        return found
    }
}
