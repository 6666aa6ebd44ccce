import EditWorker
import RabbitMQ

/// Whether the broker takes a message: the broker tells of an alarm only a connection that publishes.
enum PublishingExamination {
    private enum Outcome: Sendable {
        case confirmed
        case blocked(String)
        case failed(AMQPError)
        case silent
    }

    private static let patience = Duration.seconds(5)

    static func examine(_ open: () async throws(AMQPError) -> AMQPConnection) async -> Finding {
        do throws(AMQPError) {
            var connection = try await open()
            // To a queue of its own, or where the user may not have one, to a name that no queue has.
            var name = ByteString("seedream-worker.doctor.\(UInt64.random(in: .min ... .max))")
            do throws(AMQPError) {
                let own = QueueDeclaration(name: name, durable: false, exclusive: true, autoDelete: true)
                name = try await connection.declare(own).name
            } catch {
                guard error.code == .accessRefused else { throw error }
                connection = try await open()
            }
            let outcome = await publish(to: name, on: connection)
            // A broker that reads nothing answers no farewell either.
            Task { [connection] in await connection.close() }
            return finding(outcome)
        } catch {
            return .fault("broker", error.message, remedy: error.remedy)
        }
    }

    /// What comes first.
    private static func publish(to name: ByteString, on connection: AMQPConnection) async -> Outcome {
        let (outcomes, outcome) = AsyncStream<Outcome>.makeStream()
        let tasks = [
            Task {
                for await case .blocked(let reason) in connection.events { outcome.yield(.blocked(reason)) }
            },
            Task {
                do throws(AMQPError) {
                    let message = OutboundMessage(
                        routingKey: name,
                        properties: MessageProperties(),
                        body: [],
                        mandatory: false
                    )
                    _ = try await connection.makePublisher().publish(message)
                    outcome.yield(.confirmed)
                } catch {
                    outcome.yield(.failed(error))
                }
            },
            Task {
                try? await Task.sleep(for: patience)
                outcome.yield(.silent)
            },
        ]
        defer { for task in tasks { task.cancel() } }
        for await first in outcomes { return first }
        return .silent
    }

    private static func finding(_ outcome: Outcome) -> Finding {
        switch outcome {
        case .confirmed: return .ok("broker", "takes messages")
        case .blocked(let reason):
            return .fault(
                "broker",
                "the broker blocks publishing: \(reason)",
                remedy: "make room on the broker, or raise its limit (vm_memory_high_watermark, disk_free_limit)"
            )
        case .silent:
            return .fault(
                "broker",
                "no confirm of a message within \(patience.components.seconds) s",
                remedy: "see the broker's log and its alarms: rabbitmq-diagnostics alarms"
            )
        case .failed(let error) where error.code == .accessRefused:
            return .fault(
                "rights",
                "this user may not publish to the default exchange, where replies and dead letters go: \(error.message)",
                remedy: "give it the right to write to amq.default and to the queues; see deploy/rabbitmq"
            )
        case .failed(let error): return .fault("broker", error.message, remedy: error.remedy)
        }
    }
}
