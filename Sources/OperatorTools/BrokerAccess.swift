package import EditWorker
package import RabbitMQ

/// The way to the broker: the first of its addresses that answers.
package struct BrokerAccess: Sendable {
    private let urls: [AMQPURL]
    private let options: AMQPConnectionOptions
    /// Hears that the broker takes nothing that is published, with its reason, and with nil that it does again.
    package var onBlocked: (@Sendable (String?) -> Void)?

    /// At least one URL.
    package init(_ urls: [AMQPURL], options: AMQPConnectionOptions) {
        self.urls = urls
        self.options = options
    }

    /// The addresses without their passwords, for people.
    package var name: String { urls.map(\.redacted).joined(separator: ", ") }

    /// Opens something at the first address that answers; `purpose` is in the connection's name.
    ///
    /// Throws what the last address throws.
    package func open<Opened>(
        for purpose: String,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (AMQPURL, AMQPConnectionOptions) async throws -> Opened
    ) async throws -> Opened {
        var options = options
        options.name += " \(purpose)"
        return try await urls.firstReached { try await body($0, options) }
    }

    /// Connects.
    ///
    /// Throws `AMQPError`, that of the last address.
    package func connect(
        for purpose: String,
        isolation: isolated (any Actor)? = #isolation
    ) async throws -> AMQPConnection {
        let connection = try await open(for: purpose) { try await AMQPConnection.open($0, options: $1) }
        watch(connection)
        return connection
    }

    /// Lets `onBlocked` hear of a connection that was opened otherwise.
    package func watch(_ connection: AMQPConnection) {
        guard let onBlocked else { return }
        Task {
            for await event in connection.events {
                switch event {
                case .blocked(let reason): onBlocked(reason)
                case .unblocked: onBlocked(nil)
                case .consumerCancelled, .closed: break
                }
            }
        }
    }

    /// Asks whether requesters of direct replies are still there; to be closed.
    package var inspector: QueueInspector {
        var options = options
        options.name += " inspector"
        return QueueInspector(urls: urls, options: options)
    }

    /// Runs `body` with a connection, which is closed on every exit.
    ///
    /// Throws `AMQPError`, or what `body` throws.
    package func withConnection<Result>(
        for purpose: String,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (AMQPConnection) async throws -> Result
    ) async throws -> Result {
        let connection = try await connect(for: purpose)
        do {
            let result = try await body(connection)
            await connection.close()
            return result
        } catch {
            await connection.close()
            throw error
        }
    }
}
