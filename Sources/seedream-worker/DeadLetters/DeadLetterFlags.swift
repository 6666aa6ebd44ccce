import ArgumentParser
import EditJob
import EditWorker
import OperatorTools
import RabbitMQ
import Settings
import SharedValues

/// Which queue, and which of its letters.
struct DeadLetterFlags<Settings: SettingChoice>: ParsableArguments {
    @Flag(
        help:
            "Use the queue of unknown outcomes (QUEUE.unknown), whose jobs may have been paid for, instead of QUEUE.dlq."
    )
    var unknown = false

    @Option(help: ArgumentHelp("Only jobs that failed with this code. Can be repeated.", valueName: "code"))
    var code: [String] = []

    @Option(help: ArgumentHelp("Only the job with this id. Can be repeated.", valueName: "id"))
    var job: [String] = []

    @Option(
        help: ArgumentHelp(
            "Only jobs that failed since then, such as 2h, 3d or 2026-01-31T08:00:00Z.",
            valueName: "time"
        )
    )
    var since: String?

    @Option(help: ArgumentHelp("Maximum number of jobs.", valueName: "count"))
    var limit: Int?

    @OptionGroup
    var limits: CommandLimits

    @OptionGroup
    var settings: SettingFlags<Settings>

    func validate() throws {
        if let since, Timestamp(ago: since, before: .now) == nil {
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
            since: since.flatMap { Timestamp(ago: $0, before: .now) }
        )
    }

    /// Whether less than all are meant.
    var isFiltered: Bool { !filter.isEmpty || limit != nil }

    /// Walks over the queue, and puts back what was not removed.
    func walk(
        for command: String,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (DeadLetterQueue, WorkerSettings) async throws -> Void
    ) async throws {
        let settings = try settings.read().settings
        let queues = settings.queues
        let name = unknown ? queues.unknown : queues.deadLetters
        try await BrokerSession.reporting {
            let walk = try await BrokerSession.open(settings, for: "dead-letters \(command)") { url, options in
                try await DeadLetterQueue(name, at: url, options: options)
            }
            if walk.isShared {
                Output.error("another consumer reads \(name) too; what it holds is not shown here")
            }
            do {
                try await body(walk, settings)
                try await walk.confirmRemovals()
                await walk.ending.finish()
                if walk.missing > 0 {
                    Output.error(
                        "\(walk.missing) letters were taken or are held by another consumer, and are not shown"
                    )
                }
            } catch {
                await walk.ending.finish()
                throw error
            }
        }
    }
}

extension DeadLetterQueue {
    /// Calls `body` for each letter that the flags mean; false from it ends the walk.
    func each(
        _ flags: DeadLetterFlags<some SettingChoice>,
        limit: Int? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (DeadLetter) async throws -> Bool
    ) async throws {
        try await each(flags.filter, limit: limit ?? flags.limit, body)
    }
}
