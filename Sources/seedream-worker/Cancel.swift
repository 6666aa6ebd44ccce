import ArgumentParser
import EditWorker
import Glibc
import Ledger
import NIOConcurrencyHelpers
import OperatorTools
import RabbitMQ
import Settings

/// `cancel`: jobs that are not submitted yet end without a submission.
struct Cancel: BrokerCommand {
    static let configuration = CommandConfiguration(
        abstract: "Cancel jobs that are not submitted yet.",
        discussion: """
            Example: seedream-worker cancel --from jobs.ndjson --id-field id --reason "wrong prompt"

            The order is written into the ledger (journal.store=ledger) and holds for all replicas. A cancelled job ends with \
            a reply and a dead letter as soon as a worker takes it; nothing is submitted or paid. A job whose submission has \
            begun is too late and is named. To submit a cancelled job after all, replay its dead letter, or use submit --again.
            """
    )

    @Argument(help: "The ids of the jobs (message_id).")
    var ids: [String] = []

    @Option(help: ArgumentHelp("A file with one id per line. Use - for stdin.", valueName: "file"))
    var file: String?

    @Option(
        help: ArgumentHelp(
            "A file of jobs that were submitted with --id-field, or exported: one per line, or a JSON array. Use - for stdin.",
            valueName: "file"
        )
    )
    var from: String?

    @Option(help: ArgumentHelp("With --from, the member of each job that is its id.", valueName: "name"))
    var idField: String?

    @Flag(help: "Cancel all jobs that wait now, those in the retry queues included.")
    var queued = false

    @Option(help: ArgumentHelp("Why, for the producers and for those who look at the dead letters.", valueName: "text"))
    var reason = ""

    @Flag(help: "Show what would be cancelled, and do nothing.")
    var dryRun = false

    @OptionGroup
    var limits: CommandLimits

    @OptionGroup
    var settings: SettingFlags<CancelSettings>

    func validate() throws {
        let ways = [!ids.isEmpty, file != nil, from != nil, queued].count { $0 }
        guard ways == 1 else {
            throw ValidationError("name the jobs in one way: by their ids, --file, --from or --queued")
        }
        if idField != nil, from == nil { throw ValidationError("--id-field belongs to --from") }
        if let id = ids.first(where: { !(1...255).contains($0.utf8.count) }) {
            throw ValidationError("'\(id.prefix(40))' is no id: an id has 1 to 255 bytes")
        }
    }

    func run() async throws {
        let settings = try settings.read().settings
        guard settings.journalStore == .ledger else {
            Output.error(
                "seedream-worker: cancel needs the ledger, which all workers share: set journal.store to ledger"
            )
            throw ExitCode(ExitStatus.settings)
        }
        let keys = try await named()
        guard queued || !keys.isEmpty else {
            Output.error("seedream-worker: there is no id in \(file ?? from ?? "the arguments")")
            throw ExitCode(ExitStatus.usage)
        }
        try await BrokerSession.reporting {
            try await BrokerSession.access(settings, for: "cancel")
                .withConnection(for: "\(getpid())") {
                    try await cancel(keys, settings, on: $0)
                }
        }
    }

    // MARK: - Which jobs

    /// The keys of the jobs that are named, each once; a line without an id ends the command before anything is cancelled.
    private func named() async throws -> [String] {
        var keys: [String] = ids.map { ByteString($0).journalKey }
        var faults = 0
        func fault(_ line: String) {
            faults += 1
            if faults <= 20 { Output.error(line) }
        }
        if let file {
            let reader = try LineReader(file)
            defer { reader.close() }
            var line = 0
            while var text = try reader.next() {
                line += 1
                if text.last == UInt8(ascii: "\r") { text.removeLast() }
                guard !text.isEmpty else { continue }
                guard text.count <= 255 else {
                    fault("\(reader.name):\(line): an id has at most 255 bytes")
                    continue
                }
                keys.append(ByteString(text).journalKey)
            }
        }
        if let from {
            try await JobSource(from, isReadOnce: true)
                .readAll { job in
                    do throws(SubmittedJob.Refusal) {
                        let id = try SubmittedJob(job, idField: idField, acceptsDoubleCharge: true).id
                        guard let id else {
                            return fault("\(job.place): the job has no id; name its member with --id-field")
                        }
                        keys.append(ByteString(id).journalKey)
                    } catch {
                        fault("\(job.place): \(error)")
                    }
                }
        }
        guard faults == 0 else {
            if faults > 20 { Output.error("… and \(faults - 20) more") }
            Output.error("seedream-worker: nothing was cancelled")
            throw ExitCode(ExitStatus.someFailed)
        }
        var seen: Set<String> = []
        return keys.filter { seen.insert($0).inserted }
    }

    // MARK: - What becomes of them

    private func cancel(_ keys: [String], _ settings: WorkerSettings, on connection: AMQPConnection) async throws {
        let stream = settings.queues.ledger
        var progress = ProgressLine("read")
        guard !dryRun else {
            if queued { return try await countQueued(settings) }
            let findings = try await onLedger(stream) {
                try await JobCancellation.look(at: keys, in: stream, on: connection) { progress.show($0) }
            }
            progress.clear()
            return try report(keys, findings, count: nil)
        }
        var order = try await onLedger(stream) {
            try await JobCancellation(by: Process.person, reason: reason, in: stream, on: connection)
        }
        let ordered = NIOLockedValueBox(0)
        CommandEnd.report { [Self.ordered(ordered.withLockedValue { $0 })] }
        var count: WaitingJobs.Count?
        do {
            if queued {
                var waiting = WaitingJobs(settings.queues, over: BrokerSession.access(settings, for: "cancel"))
                try await waiting.each { jobs in
                    try await order.cancel(jobs)
                    ordered.withLockedValue { $0 = order.ids.count }
                }
                count = waiting.count
            } else {
                for start in stride(from: 0, to: keys.count, by: 1000) where !Task.isCancelled {
                    let part = keys[start..<min(start + 1000, keys.count)]
                    try await order.cancel(part.map { CancelledJob(id: $0) })
                    ordered.withLockedValue { $0 = order.ids.count }
                }
            }
            let findings = try await order.findings { progress.show($0) }
            progress.clear()
            guard !Task.isCancelled else { return Output.error(Self.ordered(order.ids.count)) }
            try report(order.ids, findings, count: count)
        } catch let error as AMQPError {
            Output.error(Self.ordered(order.ids.count))
            throw error
        }
    }

    /// What holds of a command that did not come to its end.
    private static func ordered(_ count: Int) -> String {
        "\(count) jobs are cancelled, but for those that were submitted before; repeat the command to see which"
    }

    /// What it means that there is no ledger, or that the workers take no orders of this user.
    private func onLedger<Result>(
        _ stream: ByteString,
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws -> Result
    ) async throws -> Result {
        do {
            return try await body()
        } catch let fault as OperatorRecords.NotHeard {
            Output.error("seedream-worker: \(fault); nothing was cancelled")
            throw ExitCode(ExitStatus.someFailed)
        } catch let error as AMQPError where error.code == .notFound {
            Output.error(
                "seedream-worker: cancel needs the ledger \(stream), which workers write with journal.store=ledger: \(error)"
            )
            throw ExitCode(ExitStatus.settings)
        }
    }

    /// Without looking at the jobs, which would count as a delivery.
    private func countQueued(_ settings: WorkerSettings) async throws {
        for queue in [settings.queues.jobs] + settings.queues.retries.map(\.name) {
            do {
                let count = try await BrokerSession.access(settings, for: "cancel")
                    .withConnection(for: "\(getpid())") {
                        try await $0.inspect(queue: queue).messageCount
                    }
                Output.result("\(queue): \(count)")
            } catch let error as AMQPError where error.code == .notFound {
                Output.result("\(queue): there is no such queue")
            }
        }
        Output.error("those that have a message_id would be cancelled")
    }

    private func report(
        _ keys: [String],
        _ findings: [String: JobCancellation.Finding],
        count: WaitingJobs.Count?
    ) throws {
        var (cancelled, failed, late) = (0, 0, 0)
        for key in keys {
            guard let finding = findings[key] else { continue }
            switch finding.progress {
            case .notSubmitted: cancelled += 1
            case .refused: failed += 1
            case .running, .accepted, .unknown:
                late += 1
                Output.result("\(Terminal.plain(key)): too late, \(Self.words(finding))")
            }
        }
        var parts = ["\(cancelled) \(dryRun ? "would be cancelled" : "cancelled")"]
        if failed > 0 { parts.append("\(failed) had failed before") }
        if late > 0 { parts.append("\(late) too late") }
        if let anonymous = count?.anonymous, anonymous > 0 {
            parts.append("\(anonymous) without a message_id left in the queue")
        }
        Output.error(parts.joined(separator: ", "))
        let missing = count?.missing ?? []
        if !missing.isEmpty {
            Output.error("seedream-worker: not all was looked at: \(missing.joined(separator: ", ")); see retry.delays")
        }
        if late > 0 || !missing.isEmpty, !dryRun { throw ExitCode(ExitStatus.someFailed) }
    }

    private static func words(_ finding: JobCancellation.Finding) -> String {
        switch finding.progress {
        case .accepted: finding.taskID.map { "it was submitted: task \(Terminal.plain($0))" } ?? "it was submitted"
        case .running: "it is being submitted"
        case .unknown: "it may have been submitted, and its outcome is unknown"
        case .notSubmitted, .refused: ""
        }
    }
}
