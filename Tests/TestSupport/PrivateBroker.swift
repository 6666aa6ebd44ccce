import Foundation
import Glibc
import NIOConcurrencyHelpers

/// A RabbitMQ of one test's own, of one node or a cluster of several: to be killed, restarted and starved.
package actor PrivateBroker {
    package struct Node: Sendable {
        fileprivate let name: String
        /// Where it listens on 127.0.0.1.
        package let port: Int
        fileprivate let distributionPort: Int

        package var urlText: String { "amqp://guest:guest@127.0.0.1:\(port)/" }
    }

    /// The nodes, also those that are down.
    package nonisolated let nodes: [Node]
    private let home: URL
    private let epmdPort: Int
    private let configuration: String
    private var running: [String: Program] = [:]

    /// Runs a test with a broker of its own, and removes that afterwards.
    ///
    /// `configuration` are lines of `rabbitmq.conf`, `advanced` the terms of `advanced.config`, `plugins` those to be
    /// enabled.
    package static func with<Result>(
        isolation: isolated (any Actor)? = #isolation,
        nodes count: Int = 1,
        configuration: String = "",
        advanced: String? = nil,
        plugins: [String] = [],
        _ body: (PrivateBroker) async throws -> Result
    ) async throws -> Result {
        let broker = try PrivateBroker(nodes: count, configuration: configuration, advanced: advanced, plugins: plugins)
        do {
            for node in broker.nodes { try await broker.start(node) }
            for node in broker.nodes.dropFirst() {
                try await broker.control(node, "stop_app")
                try await broker.control(node, "join_cluster", broker.nodes[0].name)
                try await broker.control(node, "start_app")
            }
            let result = try await body(broker)
            await broker.remove()
            return result
        } catch {
            await broker.remove()
            throw error
        }
    }

    private init(nodes count: Int, configuration: String, advanced: String?, plugins: [String]) throws {
        home = FileManager.default.temporaryDirectory.appendingPathComponent("broker-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: home, withIntermediateDirectories: true)
        self.configuration = configuration
        epmdPort = try Self.freePort()
        let suffix = String(UInt32.random(in: .min ... .max), radix: 36)
        nodes = try (1...count)
            .map { number in
                Node(
                    name: "n\(number)-\(suffix)@localhost",
                    port: try Self.freePort(),
                    distributionPort: try Self.freePort()
                )
            }
        try write("[\(plugins.joined(separator: ","))].", "enabled_plugins")
        try write(advanced ?? "[].", "advanced.config")
    }

    private nonisolated func write(_ text: String, _ name: String) throws {
        try Data(text.utf8).write(to: home.appendingPathComponent(name))
    }

    private static let given = NIOLockedValueBox<Set<Int>>([])

    /// A port that nobody listens on and that no other test was given; below the range from which the system gives others.
    package static func freePort() throws -> Int {
        for _ in 0..<1000 {
            let port = Int.random(in: 20_000..<32_000)
            guard given.withLockedValue({ $0.insert(port).inserted }), isFree(port) else { continue }
            return port
        }
        throw DeadlinePassed(description: "no free port")
    }

    private static func isFree(_ port: Int) -> Bool {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(socket) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        unsafe inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        return unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                unsafe bind(socket, pointer, length) == 0
            }
        }
    }

    /// The folder of RabbitMQ's commands: Debian's, unless `deploy/test` was told another.
    private static var commands: String {
        ProcessInfo.processInfo.environment["SEEDREAM_TEST_RABBITMQ"] ?? "/usr/lib/rabbitmq/bin"
    }

    private func environment(_ node: Node) -> [String: String] {
        let directory = home.appendingPathComponent(node.name).path
        return [
            "HOME": home.path, "ERL_EPMD_PORT": "\(epmdPort)", "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": node.name, "RABBITMQ_DIST_PORT": "\(node.distributionPort)",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RABBITMQ_CONFIG_FILE": "\(directory).conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": home.appendingPathComponent("advanced.config").path,
            // A node that cannot start leaves one where it was started, which is the repository.
            "ERL_CRASH_DUMP": home.appendingPathComponent("erl_crash.dump").path,
            "RABBITMQ_ENABLED_PLUGINS_FILE": home.appendingPathComponent("enabled_plugins").path,
            "RABBITMQ_MNESIA_BASE": "\(directory)-data", "RABBITMQ_LOG_BASE": "\(directory)-log",
            "RABBITMQ_PID_FILE": "\(directory).pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
            "ERL_MAX_PORTS": "65536", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            // Without the script in between, whose `wait` never ends if its parent has blocked SIGCHLD.
            "RUNNING_UNDER_SYSTEMD": "1",
        ]
    }

    /// Starts a node and waits until it takes connections.
    package func start(_ node: Node) async throws {
        let lines = """
            listeners.tcp.1 = 127.0.0.1:\(node.port)
            disk_free_limit.absolute = 50MB
            vm_memory_high_watermark.relative = 0.5
            \(configuration)

            """
        try write(lines, "\(node.name).conf")
        // First, or the node would start it, and it would outlive the node with the node's pipes.
        let epmd = try await Program.run(
            ["-daemon", "-relaxed_command_check"],
            environment: environment(node),
            executable: "/usr/bin/epmd"
        )
        guard epmd.status == 0 else { throw DeadlinePassed(description: "epmd: \(epmd.stderr)") }
        let program = try Program(
            ["-c", "exec '\(Self.commands)/rabbitmq-server' 1>&2"],
            environment: environment(node),
            executable: "/bin/sh"
        )
        running[node.name] = program
        // The last line of the start; the listeners are open then.
        try await program.waitForStderr("completed with", within: .seconds(300))
    }

    /// The major version of the nodes.
    package func majorVersion() async throws -> Int {
        let version = try await control(nodes[0], "version")
        return version.split(separator: ".").first.flatMap { Int($0) } ?? 0
    }

    /// Imports definitions into a node.
    package func importDefinitions(_ text: String, into node: Node) async throws {
        // Not from where they are: the node may see this directory and no other.
        let path = home.appendingPathComponent("definitions.json")
        try Data(text.utf8).write(to: path)
        try await control(node, "import_definitions", path.path)
    }

    /// Kills a node with -9 and waits for its end.
    package func kill(_ node: Node) async throws {
        guard let program = running.removeValue(forKey: node.name) else { return }
        program.signal(SIGKILL)
        _ = try await program.outcome()
    }

    /// Stops a node where it is, or lets it go on: its sockets stay open, and nobody answers.
    package func freeze(_ node: Node, _ isFrozen: Bool) {
        running[node.name]?.signal(isFrozen ? SIGSTOP : SIGCONT)
    }

    /// Runs `rabbitmqctl` on a node.
    @discardableResult
    package func control(_ node: Node, _ arguments: String...) async throws -> String {
        let outcome = try await Program.run(
            ["-q", "-n", node.name] + arguments,
            environment: environment(node),
            executable: "\(Self.commands)/rabbitmqctl"
        )
        guard outcome.status == 0 else {
            throw DeadlinePassed(description: "rabbitmqctl \(arguments): \(outcome.stdout)\(outcome.stderr)")
        }
        return outcome.stdout
    }

    private func remove() async {
        for node in nodes { try? await kill(node) }
        let environment = environment(nodes[0])
        // epmd knows of a node's end a moment later, and does not end before.
        try? await eventually("epmd's end") {
            let outcome = try await Program.run(["-kill"], environment: environment, executable: "/usr/bin/epmd")
            return outcome.status == 0
        }
        try? FileManager.default.removeItem(at: home)
    }
}
