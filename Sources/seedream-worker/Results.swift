import ArgumentParser
import EditWorker
import JSON
import OperatorTools
import RabbitMQ
import Settings

/// `results`: the replies to jobs without a usable `reply_to`.
struct Results: BrokerCommand {
    static let judgesItsEnd = true

    static let configuration = CommandConfiguration(
        abstract: "Print the replies in the results queue, and remove each once it is printed.",
        discussion: """
            Example: seedream-worker results --format text

            The queue holds the replies to jobs whose reply_to is missing, does not exist or is not allowed. With --job, \
            replies to other jobs stay in the queue.
            """
    )

    @Flag(help: "Keep printing replies as they arrive, until Ctrl-C.")
    var follow = false

    @Option(help: ArgumentHelp("Print only the reply to this job. Can be repeated.", valueName: "id"))
    var job: [String] = []

    @Option(help: "The format of the replies.")
    var format = OutputFormat.json

    @OptionGroup
    var limits: CommandLimits

    @OptionGroup
    var settings: SettingFlags<BrokerSettings>

    func run() async throws {
        let settings = try settings.read().settings
        try await BrokerSession.reporting {
            if follow { try await printAsTheyCome(settings) } else { try await printAll(settings) }
            // Following has no other end.
            if follow, CommandEnd.cause != nil { throw ExitCode.success }
        }
    }

    private func printAll(_ settings: WorkerSettings) async throws {
        let walk = try await BrokerSession.open(settings, for: "results") { url, options in
            try await DeadLetterQueue(settings.queues.results, at: url, options: options)
        }
        do {
            while let letter = try await walk.next() {
                guard isMeant(letter.delivery) else { continue }
                guard print(letter.delivery) else { break }
                try walk.remove(letter)
            }
            try await walk.confirmRemovals()
        } catch {
            await walk.ending.finish()
            throw error
        }
        await walk.ending.finish()
    }

    /// Replies to other jobs are held until the end, and then return to the queue.
    private func printAsTheyCome(_ settings: WorkerSettings) async throws {
        let connection = try await BrokerSession.open(settings, for: "results")
        do {
            let consumer = try await connection.consume(
                from: settings.queues.results,
                prefetch: job.isEmpty ? 100 : .max
            )
            var isRead = true
            for await delivery in consumer.deliveries where isMeant(delivery) {
                isRead = print(delivery)
                guard isRead else { break }
                _ = delivery.acknowledge()
            }
            guard Task.isCancelled || !isRead else {
                throw AMQPError(.connectionLost, "the connection to the broker was lost while results were read")
            }
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
    }

    private static func id(_ delivery: Delivery) -> String {
        delivery.properties.headers?[JobHeader.jobID]?.text ?? delivery.properties.correlationID?.text ?? "-"
    }

    private func isMeant(_ delivery: Delivery) -> Bool { job.isEmpty || job.contains(Self.id(delivery)) }

    /// Prints a reply; false if standard output is closed, so that the reply stays in the queue.
    private func print(_ delivery: Delivery) -> Bool {
        let reply = try? JSONValue(parsing: delivery.body)
        let text = String(decoding: delivery.body, as: UTF8.self)
        return Output.result(format == .json ? text : ReplyText.line(Self.id(delivery), reply))
    }
}
