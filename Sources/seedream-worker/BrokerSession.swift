import ArgumentParser
import Glibc
import OperatorTools
import RabbitMQ
import Settings

/// How the commands for people reach the broker.
enum BrokerSession {
    /// Connects to the first of the URLs that answers; the connection's name says which command it is.
    ///
    /// Throws `AMQPError`, that of the last URL.
    static func open(_ settings: WorkerSettings, for command: String) async throws -> AMQPConnection {
        try await access(settings, for: command).connect(for: "\(getpid())")
    }

    /// Opens something at the first of the URLs that answers.
    static func open<Opened>(
        _ settings: WorkerSettings,
        for command: String,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (AMQPURL, AMQPConnectionOptions) async throws -> Opened
    ) async throws -> Opened {
        try await access(settings, for: command).open(for: "\(getpid())", body)
    }

    static func access(_ settings: WorkerSettings, for command: String) -> BrokerAccess {
        var options = AMQPConnectionOptions(name: "seedream-worker \(command)")
        options.product = "seedream-worker"
        options.heartbeat = settings.amqpHeartbeat
        options.tls = settings.amqpTLS
        var access = BrokerAccess(settings.amqpURLs, options: options)
        access.onBlocked = CommandEnd.brokerBlocks
        return access
    }

    /// Runs a command; an error of the broker becomes a line and an exit status.
    static func reporting(
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws -> Void
    ) async throws {
        do {
            try await body()
        } catch let error as AMQPError {
            Output.error("seedream-worker: \(error)")
            throw ExitCode(error.exitStatus)
        }
    }
}
