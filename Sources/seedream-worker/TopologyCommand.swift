import ArgumentParser
import EditWorker
import Glibc
import JSON
import RabbitMQ
import Settings
import SharedValues

/// `topology`: the queues, without a worker.
struct TopologyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topology",
        abstract: "Declare, verify or print the queues.",
        subcommands: [Declare.self, Verify.self, Print.self]
    )

    /// `topology declare`: makes the queues that are missing.
    struct Declare: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Declare all queues.",
            discussion: "Example: SEEDREAM_QUEUE_NAME=edits seedream-worker topology declare"
        )

        @OptionGroup
        var limits: CommandLimits

        @OptionGroup
        var flags: SettingFlags<TopologySettings>

        func run() async throws {
            try await TopologyCommand.establish(.declare, flags.read().settings)
        }
    }

    /// `topology verify`: looks for the queues and changes nothing.
    struct Verify: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Look whether all queues are there, and change nothing.",
            discussion: "Example: seedream-worker topology verify --amqp-url amqp://operator:password@broker/"
        )

        @OptionGroup
        var limits: CommandLimits

        @OptionGroup
        var flags: SettingFlags<TopologySettings>

        func run() async throws {
            try await TopologyCommand.establish(.verify, flags.read().settings)
        }
    }

    /// `topology print`: RabbitMQ definitions, to be imported by an operator.
    struct Print: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the queues as RabbitMQ definitions.",
            discussion: """
                Example: seedream-worker topology print --broker-version 4 > definitions.json

                The arguments depend on RabbitMQ's major version. Without --broker-version the broker is asked for it.
                """
        )

        @Option(
            help: ArgumentHelp(
                "RabbitMQ's version, such as 4 or 3.10.8, instead of asking the broker.",
                valueName: "version"
            )
        )
        var brokerVersion: String?

        @OptionGroup
        var limits: CommandLimits

        @OptionGroup
        var flags: SettingFlags<TopologySettings>

        func validate() throws {
            if let brokerVersion, Self.major(brokerVersion) == nil {
                throw ValidationError("--broker-version '\(brokerVersion)' is not a version such as 4 or 3.10.8")
            }
        }

        private static func major(_ version: String) -> Int? {
            version.split(separator: ".", omittingEmptySubsequences: false).first.flatMap { UInt16($0) }.map { Int($0) }
        }

        /// The version that was given, or the broker's own; the older arguments if neither is known.
        private func brokerMajor(_ settings: WorkerSettings) async -> Int {
            if let major = brokerVersion.flatMap({ Self.major($0) }) { return major }
            do {
                let connection = try await BrokerSession.open(settings, for: "topology")
                let major = await connection.brokerMajorVersion
                await connection.close()
                return major
            } catch {
                Output.error(
                    "seedream-worker: the broker cannot be asked for its version, so these are the queues for RabbitMQ 3. "
                        + "Add --broker-version 4 for RabbitMQ 4. (\(error))"
                )
                return 3
            }
        }

        func run() async throws {
            let settings = try flags.read().settings
            let virtualHost = settings.amqpURLs[0].virtualHost
            let topology = settings.topology(.declare)
            let queues = topology.declarations(brokerMajor: await brokerMajor(settings))
                .map { queue in
                    JSONValue.object([
                        JSONMember("name", .string(queue.name.text)), JSONMember("vhost", .string(virtualHost)),
                        JSONMember("durable", .boolean(queue.durable)),
                        JSONMember("auto_delete", .boolean(queue.autoDelete)),
                        JSONMember("arguments", .object(queue.arguments.entries.map(TopologyCommand.argument))),
                    ])
                }
            let exchange = JSONValue.object([
                JSONMember("name", .string(topology.exchange.name.text)), JSONMember("vhost", .string(virtualHost)),
                JSONMember("type", .string(topology.exchange.kind)), JSONMember("durable", .boolean(true)),
                JSONMember("auto_delete", .boolean(false)), JSONMember("internal", .boolean(false)),
                JSONMember("arguments", .object([])),
            ])
            let binding = JSONValue.object([
                JSONMember("source", .string(topology.binding.exchange.text)),
                JSONMember("vhost", .string(virtualHost)),
                JSONMember("destination", .string(topology.binding.queue.text)),
                JSONMember("destination_type", .string("queue")),
                JSONMember("routing_key", .string(topology.binding.routingKey.text)),
                JSONMember("arguments", .object([])),
            ])
            let definitions = JSONValue.object([
                JSONMember("queues", .array(queues)), JSONMember("exchanges", .array([exchange])),
                JSONMember("bindings", .array([binding])),
            ])
            Output.result(definitions.indented)
        }
    }

    private static func establish(_ mode: TopologyMode, _ settings: WorkerSettings) async throws {
        try await BrokerSession.reporting {
            let connection = try await BrokerSession.open(settings, for: "topology")
            let topology = settings.topology(mode)
            try await topology.establish(on: connection, needsExchange: true)
            for queue in topology.declarations(brokerMajor: await connection.brokerMajorVersion) {
                Output.result("\(queue.name)")
            }
            await connection.close()
        }
    }

    private static func argument(_ entry: FieldTable.Entry) -> JSONMember {
        let value: JSONValue = entry.value.integer.map { .integer($0) } ?? .string(entry.value.text ?? "")
        return JSONMember(entry.name.text, value)
    }
}
