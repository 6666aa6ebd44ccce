import AMQP
import ArgumentParser
import EditWorker
import Glibc
import JSON
import WorkerSettings

/// `topology`: the queues, without a worker.
struct TopologyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topology",
        abstract: "Declare, verify or print the queues.",
        subcommands: [Declare.self, Verify.self, Print.self]
    )

    /// `topology declare`: makes the queues that are missing.
    struct Declare: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Declare all queues.",
            discussion: "Example: SEEDREAM_QUEUE_NAME=edits seedream-worker topology declare"
        )

        @OptionGroup(title: "Settings")
        var flags: SettingFlags

        func run() async throws {
            try await TopologyCommand.establish(.declare, flags.read().settings)
        }
    }

    /// `topology verify`: looks for the queues and changes nothing.
    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Look whether all queues are there, and change nothing.",
            discussion: "Example: seedream-worker topology verify --amqp-url amqp://operator:password@broker/"
        )

        @OptionGroup(title: "Settings")
        var flags: SettingFlags

        func run() async throws {
            try await TopologyCommand.establish(.verify, flags.read().settings)
        }
    }

    /// `topology print`: RabbitMQ definitions, to be imported by an operator.
    struct Print: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the queues as RabbitMQ definitions.",
            discussion: "Example: seedream-worker topology print --broker 4 > definitions.json"
        )

        @Option(help: ArgumentHelp("The broker's major version, on which the arguments depend.", valueName: "version"))
        var broker = 3

        @OptionGroup(title: "Settings")
        var flags: SettingFlags

        func run() async throws {
            let settings = try flags.read().settings
            let virtualHost = settings.amqpURLs[0].virtualHost
            let queues = TopologyCommand.topology(.declare, settings).declarations(brokerMajor: broker)
                .map { queue in
                    JSONValue.object([
                        JSONMember("name", .string(queue.name.text)), JSONMember("vhost", .string(virtualHost)),
                        JSONMember("durable", .boolean(queue.durable)),
                        JSONMember("auto_delete", .boolean(queue.autoDelete)),
                        JSONMember("arguments", .object(queue.arguments.entries.map(TopologyCommand.argument))),
                    ])
                }
            let definitions = JSONValue.object([JSONMember("queues", .array(queues))])
            Console.result(String(decoding: definitions.encoded(), as: UTF8.self))
        }
    }

    private static func topology(_ mode: Topology.Mode, _ settings: Settings) -> Topology {
        let queues = JobQueues(name: settings.queueName, retryDelays: settings.retryDelays)
        return Topology(queues: queues, type: settings.queueType, mode: mode)
    }

    private static func establish(_ mode: Topology.Mode, _ settings: Settings) async throws {
        try await BrokerSession.reporting {
            let connection = try await BrokerSession.open(settings, for: "topology")
            let topology = topology(mode, settings)
            try await topology.establish(on: connection)
            for queue in topology.declarations(brokerMajor: await connection.brokerMajorVersion) {
                Console.result("\(queue.name)")
            }
            await connection.close()
        }
    }

    private static func argument(_ entry: FieldTable.Entry) -> JSONMember {
        let value: JSONValue = entry.value.integer.map { .integer($0) } ?? .string(entry.value.text ?? "")
        return JSONMember(entry.name.text, value)
    }
}
