import AMQP
import ArgumentParser
import EditJob
import EditWorker
import OperatorTools
import SharedValues
import WorkerSettings

/// Which queue, and which of its letters.
struct DeadLetterFlags: ParsableArguments {
    @Flag(help: "The jobs that may or may not have been paid for (QUEUE.unknown), instead of the failed ones.")
    var unknown = false

    @Option(help: ArgumentHelp("Only those with this code; may be repeated.", valueName: "code"))
    var code: [String] = []

    @Option(help: ArgumentHelp("Only the job with this id; may be repeated.", valueName: "id"))
    var job: [String] = []

    @Option(help: ArgumentHelp("Only those that failed since: 2h, 3d, or 2026-01-31T08:00:00Z.", valueName: "time"))
    var since: String?

    @Option(help: ArgumentHelp("At most so many.", valueName: "count"))
    var limit: Int?

    @OptionGroup
    var settings: BrokerSettings

    func validate() throws {
        if let since, Self.moment(since, now: .now) == nil {
            throw ValidationError(
                "--since '\(since)' is neither a duration such as 2h nor a time such as 2026-01-31T08:00:00Z"
            )
        }
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1") }
    }

    /// The letters that are meant.
    var filter: DeadLetterFilter {
        DeadLetterFilter(
            codes: Set(code),
            jobs: Set(job),
            since: since.flatMap { Self.moment($0, now: .now) }
        )
    }

    /// Whether less than all are meant.
    var isFiltered: Bool { !filter.isEmpty || limit != nil }

    static func moment(_ text: String, now: Timestamp) -> Timestamp? {
        if let moment = time(text) { return moment }
        let days = text.hasSuffix("d") ? Int64(text.dropLast()).flatMap { (0...100_000).contains($0) ? $0 : nil } : nil
        guard let seconds = days.map({ $0 * 86_400 }) ?? DurationText.parse(text)?.components.seconds else {
            return nil
        }
        return Timestamp(milliseconds: now.milliseconds - min(seconds, 1_000_000_000_000) * 1000)
    }

    /// Reads a time of RFC 3339 §5.6, to the millisecond.
    private static func time(_ text: String) -> Timestamp? {
        let pattern = /(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))/
        guard let match = text.wholeMatch(of: pattern)?.output, let year = Int(match.1), let month = Int(match.2),
            let day = Int(match.3), let hour = Int(match.4), let minute = Int(match.5), let second = Int(match.6),
            (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60
        else { return nil }
        let offset = (match.9.flatMap { Int($0) } ?? 0) * 60 + (match.10.flatMap { Int($0) } ?? 0)
        let local = Timestamp(year: year, month: month, day: day, hour: hour, minute: minute, second: second)
        let sign: Int64 = match.8 == "-" ? 1 : -1
        let fraction = match.7.flatMap { Int64(($0 + "00").prefix(3)) } ?? 0
        return Timestamp(milliseconds: local.milliseconds + fraction + sign * Int64(offset) * 60_000)
    }

    /// Walks over the queue, and puts back what was not removed.
    func walk(
        for command: String,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (DeadLetterQueue, Settings) async throws -> Void
    ) async throws {
        let settings = try settings.read().settings
        let queues = JobQueues(name: settings.queueName, retryDelays: settings.retryDelays)
        let name = unknown ? queues.unknown : queues.deadLetters
        try await BrokerSession.reporting {
            let walk = try await BrokerSession.open(settings, for: "dead-letters \(command)") { url, options in
                try await DeadLetterQueue(name, at: url, options: options, most: filter.isEmpty ? limit : nil)
            }
            if walk.isShared {
                Console.error("somebody else consumes from \(name) too; what they hold is not seen here")
            }
            do {
                try await body(walk, settings)
                try await walk.confirmRemovals()
                await walk.close()
                if walk.missing > 0 {
                    Console.error("\(walk.missing) letters were taken or are held by somebody else, and were not seen")
                }
            } catch {
                await walk.close()
                throw error
            }
        }
    }
}

extension DeadLetterQueue {
    /// Calls `body` for each letter that a filter takes, at most `limit`; false from it ends the walk.
    func each(
        _ flags: DeadLetterFlags,
        limit: Int? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (DeadLetter) async throws -> Bool
    ) async throws {
        let filter = flags.filter
        var left = limit ?? flags.limit ?? Int.max
        while left > 0, let letter = try await next() {
            guard filter.takes(letter) else { continue }
            left -= 1
            guard try await body(letter) else { return }
        }
    }
}
