import AMQP
import ArgumentParser
import EditJob
import EditWorker
import Glibc
import WorkerSettings

/// `dead-letters`: what became of the failed jobs.
struct DeadLetters: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dead-letters",
        abstract: "Look at the failed jobs.",
        subcommands: [DeadLettersList.self]
    )
}

/// `dead-letters list`: a count by code, then a table.
///
/// Nothing is changed by looking.
struct DeadLettersList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "Count the failed jobs by code, and show each in a line.",
        discussion: "Example: seedream-worker dead-letters list --code invalid_job"
    )

    @Flag(help: "The jobs that may or may not have been accepted, instead of the failed ones.")
    var unknown = false

    @Option(help: ArgumentHelp("Only those with this code.", valueName: "code"))
    var code: String?

    @Option(help: ArgumentHelp("Show at most so many lines.", valueName: "count"))
    var limit = 100

    @OptionGroup(title: "Settings")
    var flags: SettingFlags

    func run() async throws {
        let settings = try flags.read().settings
        let queues = JobQueues(name: settings.queueName, retryDelays: settings.retryDelays)
        do {
            let letters = try await Self.look(at: unknown ? queues.unknown : queues.deadLetters, settings)
            show(letters.filter { code == nil || $0.code == code })
        } catch let error as AMQPError {
            Console.error("seedream-worker: \(error)")
            throw ExitCode(error.exitStatus)
        }
    }

    /// Takes every message without acknowledging it; the end of the connection puts all back in their order.
    private static func look(at queue: ByteString, _ settings: Settings) async throws -> [DeadLetterLine] {
        var options = AMQPConnectionOptions(name: "seedream-worker dead-letters \(getpid())")
        options.tls = settings.amqpTLS
        let connection = try await AMQPConnection.open(settings.amqpURLs[0], options: options)
        let count = Int(try await connection.inspect(queue: queue).messageCount)
        var lines: [DeadLetterLine] = []
        if count > 0 {
            let subscription = try await connection.consume(from: queue, prefetch: 0)
            for await delivery in subscription.deliveries {
                lines.append(DeadLetterLine(delivery))
                if lines.count == count { break }
            }
        }
        await connection.close()
        return lines
    }

    private func show(_ letters: [DeadLetterLine]) {
        let counts = Dictionary(grouping: letters, by: \.code).mapValues(\.count)
        let byCode = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.value) \($0.key)" }
        Console.result("\(letters.count) dead letters\(byCode.isEmpty ? "" : ": " + byCode.joined(separator: ", "))")
        guard !letters.isEmpty else { return }
        let rows = [["AGE", "JOB", "CODE", "ATTEMPTS", "MESSAGE"]] + letters.prefix(limit).map(\.columns)
        let widths = (0..<4).map { column in rows.map { $0[column].count }.max() ?? 0 }
        for row in rows {
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: max(0, $1 - $0.count)) }
            Console.result((cells + [row[4]]).joined(separator: "  "))
        }
    }
}

/// What a dead letter says of itself, in one line.
private struct DeadLetterLine {
    let code: String
    private let age: Duration?
    private let job: String
    private let attempts: String
    private let message: String

    init(_ delivery: Delivery) {
        let headers = delivery.properties.headers ?? [:]
        // Without our headers the broker itself has put it here.
        code = headers[JobHeader.errorCode]?.text ?? headers["x-first-death-reason"]?.text ?? "unknown"
        job = headers[JobHeader.jobID]?.text ?? delivery.properties.messageID?.text ?? "-"
        attempts = headers[JobHeader.attempts]?.integer.map { "\($0)" } ?? "-"
        message = headers[JobHeader.errorMessage]?.text ?? ""
        age = headers[JobHeader.failedAt]?.text.flatMap { Timestamp(rfc3339: $0) }
            .map {
                .milliseconds(max(0, Timestamp.now.milliseconds - $0.milliseconds))
            }
    }

    var columns: [String] { [shownAge, job, code, attempts, message] }

    private var shownAge: String {
        guard let seconds = age?.components.seconds else { return "-" }
        switch seconds {
        case ..<120: return "\(seconds)s"
        case ..<7200: return "\(seconds / 60)m"
        case ..<172_800: return "\(seconds / 3600)h"
        default: return "\(seconds / 86_400)d"
        }
    }
}
