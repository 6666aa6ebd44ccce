import EditJob
import EditWorker
import Journal
import Ledger
import OperatorTools
import RabbitMQ
import Settings
import SharedValues

/// The ledger's part of `doctor`: whether it can be used, and whether the replicas agree.
enum LedgerExamination {
    /// What the workers say of themselves; nil if there is no ledger, or it cannot be read.
    static func fleet(_ settings: WorkerSettings) async -> FleetView? {
        guard let connection = try? await open(settings) else { return nil }
        let fleet = try? await FleetView.read(settings.queues.ledger, on: connection)
        await connection.close()
        return fleet
    }

    /// Whether the broker has streams; a declaration that no broker accepts tells it, and changes nothing.
    private static func fault(ofStreamsAt settings: WorkerSettings) async -> AMQPError? {
        do throws(AMQPError) {
            let connection = try await open(settings)
            let impossible = QueueDeclaration(
                name: ByteString("seedream-worker.doctor.\(UInt64.random(in: .min ... .max))"),
                exclusive: true,
                arguments: ["x-queue-type": .text("stream")]
            )
            _ = try await connection.declare(impossible)
            await connection.close()
            return nil
        } catch {
            // What is refused is that a stream be exclusive; and who may not declare has nothing to learn from it.
            let isAboutStreams = error.code != .preconditionFailed && error.code != .accessRefused
            return isAboutStreams && LedgerJournal.isWithoutStreams(error) ? error : nil
        }
    }

    static func examine(_ settings: WorkerSettings, brokerMajor: Int?) async -> Finding {
        let stream = settings.queues.ledger
        do throws(AMQPError) {
            let connection = try await open(settings)
            var history = LedgerHistory()
            // Of the URL: what is asked of the broker waits while it reads nothing.
            let user = settings.amqpURLs.first?.credentials?.user
            let writers = LedgerWriters(user: user, others: settings.journalWriters)
            var strangers: [String: Int] = [:]
            try await LedgerReader.read(
                stream,
                on: connection,
                writer: { if !writers.counts($0) { strangers[$0 ?? "unknown", default: 0] += 1 } },
                { history.read($0, at: $1) }
            )
            var alive: [(writer: String, greeting: LedgerGreeting)] = []
            let now = Timestamp.now.milliseconds
            for member in history.fleet.members.values {
                guard let greeting = member.greeting, now - member.lastSeen < FleetView.longestSilence else { continue }
                alive.append((member.writer, greeting))
            }
            await connection.close()
            if let finding = judge(strangers, of: stream, besides: user ?? "") { return finding }
            let found = judge(alive.sorted { $0.writer < $1.writer }, settings, remembered: history.submissions.count)
            return found.status == .ok ? judgeRetention(settings) ?? found : found
        } catch {
            switch error.code {
            case .notFound:
                if let fault = await fault(ofStreamsAt: settings) {
                    return .fault(
                        "journal",
                        "the broker has no streams: \(fault.message)",
                        remedy: LedgerJournal.withoutStreams
                    )
                }
                return judgeRetention(settings)
                    ?? .ok("journal", "\(stream) is not there yet; the first worker makes it")
            case .accessRefused:
                return .fault(
                    "journal",
                    error.message,
                    remedy: "allow the user to read \(stream)"
                )
            default: return .fault("journal", error.message, remedy: error.remedy)
            }
        }
    }

    private static func open(_ settings: WorkerSettings) async throws(AMQPError) -> AMQPConnection {
        var options = AMQPConnectionOptions(name: "seedream-worker doctor")
        options.tls = settings.amqpTLS
        return try await settings.amqpURLs.firstReached { url throws(AMQPError) in
            try await AMQPConnection.open(url, options: options)
        }
    }

    private static func judge(_ strangers: [String: Int], of stream: ByteString, besides user: String) -> Finding? {
        guard !strangers.isEmpty else { return nil }
        let names = strangers.keys.sorted().prefix(5).joined(separator: ", ")
        return .fault(
            "journal",
            "users whose records do not count for \(user) have written to \(stream): \(names)",
            remedy: "add them to journal.writers, or take their right to write to the ledger away"
        )
    }

    /// What comes back after longer than the ledger remembers looks like a new job.
    private static func judgeRetention(_ settings: WorkerSettings) -> Finding? {
        let longest = settings.consumerTimeout + settings.ledgerPatience
        guard settings.journalRetention <= longest else { return nil }
        return .warning(
            "journal",
            "journal.retention is \(DurationText.text(settings.journalRetention)): a job may come back after "
                + "\(ShortDuration.text(longest)), and would be outcome_unknown",
            remedy: "raise journal.retention above queue.consumerTimeout and the longest submission together"
        )
    }

    private static func judge(
        _ replicas: [(writer: String, greeting: LedgerGreeting)],
        _ settings: WorkerSettings,
        remembered: Int
    ) -> Finding {
        let own = settings.sharedByReplicas
        var differences: [String] = []
        for replica in replicas {
            for (key, value) in replica.greeting.settings.sorted(by: { $0.key < $1.key }) {
                if let ours = own[key], ours != value { differences.append("\(replica.writer) has \(key)=\(value)") }
            }
        }
        let living = replicas.count == 1 ? "1 replica alive" : "\(replicas.count) replicas alive"
        let found = "\(settings.queues.ledger): \(remembered) submissions, \(living)"
        guard differences.isEmpty else {
            return .warning(
                "journal",
                "\(found); \(differences.joined(separator: ", ")), other than here",
                remedy: "give all replicas of a queue the same settings"
            )
        }
        let versions = Set(replicas.map(\.greeting.version))
        return versions.count > 1
            ? .warning("journal", "\(found), of versions \(versions.sorted().joined(separator: ", "))")
            : .ok("journal", found)
    }
}
