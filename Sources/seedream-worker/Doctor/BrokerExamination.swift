import EditWorker
import OperatorTools
import RabbitMQ
import Settings
import SharedValues

/// The broker's part of `doctor`.
struct BrokerExamination {
    /// The oldest version with dead-lettering at least once for quorum queues.
    private static let oldestVersion = [3, 10]

    private let settings: WorkerSettings
    private let topology: Topology

    init(_ settings: WorkerSettings) {
        self.settings = settings
        topology = settings.topology
    }

    /// The node that was reached, and RabbitMQ's major version.
    typealias Way = (url: AMQPURL, major: Int)

    /// Tries all nodes; nil if none can be used.
    func reach(_ tell: (Finding) -> Void) async -> Way? {
        var usable: Way?
        var refused: [AMQPError] = []
        for url in settings.amqpURLs {
            do throws(AMQPError) {
                let connection = try await open(url)
                let version = await connection.brokerVersion
                let major = await connection.brokerMajorVersion
                tell(found(version, at: url, frameMax: await connection.frameMax))
                await connection.close()
                usable = usable ?? (url, major)
            } catch {
                refused.append(error)
            }
        }
        for error in refused {
            // A cluster of which one node answers is enough for a worker.
            tell(
                usable == nil
                    ? .fault("broker", error.message, remedy: error.remedy)
                    : .warning("broker", error.message, remedy: error.remedy)
            )
        }
        return usable
    }

    /// Looks at everything on a broker that answers; `fleet` says what the workers do, if that is known.
    func examine(_ way: Way, _ fleet: FleetView?, _ tell: (Finding) -> Void) async {
        tell(await PublishingExamination.examine { () throws(AMQPError) in try await open(way.url) })
        var missing: [ByteString] = []
        var mayNotDeclare: AMQPError?
        for declaration in topology.declarations(brokerMajor: way.major) {
            switch await examine(declaration, way.url, major: way.major, fleet) {
            case .found(let finding): tell(finding)
            case .missing: missing.append(declaration.name)
            case .notAllowed(let finding, let error):
                tell(finding)
                mayNotDeclare = error
            }
        }
        if !missing.isEmpty { tell(judge(missing)) }
        if let mayNotDeclare {
            tell(
                .fault(
                    "rights",
                    "this user may not declare the queues, as queue.topology=declare does: \(mayNotDeclare.message)",
                    remedy: "set queue.topology to verify, or give the user the right to configure them"
                )
            )
        }
        tell(timeouts)
    }

    private func judge(_ missing: [ByteString]) -> Finding {
        let names = missing.map(\.text).joined(separator: ", ")
        return topology.mode == .declare
            ? .ok("queue", "not there yet, a worker declares them: \(names)")
            : .fault(
                "queue",
                "missing, and queue.topology is verify: \(names)",
                remedy: "run, as a user who may: seedream-worker topology declare"
            )
    }

    private enum Result {
        case found(Finding)
        case missing
        /// It is there, and this user may not declare it.
        case notAllowed(Finding, AMQPError)
    }

    private func open(_ url: AMQPURL) async throws(AMQPError) -> AMQPConnection {
        var options = AMQPConnectionOptions(name: "seedream-worker doctor")
        options.tls = settings.amqpTLS
        return try await AMQPConnection.open(url, options: options)
    }

    private func found(_ version: String, at url: AMQPURL, frameMax: Int) -> Finding {
        let numbers = version.split(separator: ".").map { Int($0) ?? 0 }
        let message = "RabbitMQ \(version) at \(url), frames of \(frameMax) bytes"
        guard numbers.lexicographicallyPrecedes(Self.oldestVersion) else { return .ok("broker", message) }
        return .fault("broker", message, remedy: "upgrade to 3.10 or later: older ones may lose dead letters")
    }

    /// Asks for a queue, and if it is there, whether its arguments are those of the topology.
    ///
    /// A declaration of a queue that is there changes nothing. A refusal ends the connection, so each has its own.
    private func examine(
        _ declaration: QueueDeclaration,
        _ url: AMQPURL,
        major: Int,
        _ fleet: FleetView?
    ) async -> Result {
        let check = "queue"
        let status: QueueStatus
        do throws(AMQPError) {
            let connection = try await open(url)
            status = try await connection.inspect(queue: declaration.name)
            let refusal = await Self.refusal(of: declaration, on: connection)
            await connection.close()
            switch refusal?.code {
            case nil: break
            // Who verifies need not declare; the arguments are the operator's.
            case .accessRefused:
                if let refusal, topology.mode == .declare {
                    return .notAllowed(judge(declaration.name, status, fleet), refusal)
                }
            case .preconditionFailed:
                let message = refusal?.message ?? ""
                if let finding = dropping(declaration.name, message, major: major) { return .found(finding) }
                // In verify mode the operator may have set the same through policies.
                guard topology.mode == .declare else { return .found(judge(declaration.name, status, fleet)) }
                let remedy = "delete the queue when it is empty, or change queue.type and retry.delays to what it is"
                return .found(.fault(check, message, remedy: remedy))
            default:
                if let refusal { throw refusal }
            }
        } catch {
            guard error.code != .notFound else { return .missing }
            return .found(.fault(check, "\(declaration.name): \(error.message)", remedy: error.remedy))
        }
        return .found(judge(declaration.name, status, fleet))
    }

    /// Why the broker would not declare the queue; nil if it did.
    private static func refusal(of queue: QueueDeclaration, on connection: AMQPConnection) async -> AMQPError? {
        do throws(AMQPError) {
            _ = try await connection.declare(queue)
            return nil
        } catch {
            return error
        }
    }

    /// The finding about a queue of dead letters whose delivery limit differs from the topology's; nil for anything else.
    ///
    /// Looking at a dead letter returns it, which counts: with a limit of 20 about twenty looks drop it. On 3.x a limit
    /// of -1 drops at the first.
    private func dropping(_ name: ByteString, _ refusal: String, major: Int) -> Finding? {
        guard name == topology.queues.deadLetters || name == topology.queues.unknown,
            refusal.contains("x-delivery-limit")
        else { return nil }
        guard major >= 4 else {
            return .fault(
                "queue",
                "\(name) has a delivery limit: looking at its letters drops them (\(refusal))",
                remedy: "make the queue again without x-delivery-limit while it is empty"
            )
        }
        let message = "\(name) has no x-delivery-limit of -1: RabbitMQ 4 drops a letter after about 20 looks at it"
        let remedy =
            "set a policy with delivery-limit -1 for it, or make it again with x-delivery-limit -1 while it is empty"
        // A policy, which cannot be seen from here, may say so already; a worker that declares fails on the argument.
        return topology.mode == .declare
            ? .fault("queue", message, remedy: remedy)
            : .warning("queue", "\(message), unless a policy says -1", remedy: remedy)
    }

    private func judge(_ name: ByteString, _ status: QueueStatus, _ fleet: FleetView?) -> Finding {
        let message = "\(name): \(status.messageCount) ready, \(status.consumerCount) consumers"
        let queues = topology.queues
        switch name {
        case queues.deadLetters where status.messageCount > 0:
            return .warning("queue", message, remedy: "see: seedream-worker dead-letters list")
        case queues.unknown where status.messageCount > 0:
            return .warning("queue", message, remedy: "see: seedream-worker dead-letters list --unknown")
        case queues.results where status.messageCount > 0 && status.consumerCount == 0:
            return .warning("queue", message, remedy: "read and remove them: seedream-worker results")
        case queues.jobs where status.messageCount > 0 && status.consumerCount == 0:
            // Workers that live and take nothing have their reason, which stands under "fleet".
            let isIdle = fleet.map { $0.pausedFor != nil || !$0.replicas.isEmpty } ?? false
            guard !isIdle else { return .ok("queue", "\(message), for what stands under fleet") }
            return .warning("queue", message, remedy: "start a worker: seedream-worker run")
        case queues.undelivered where status.messageCount > 0 && status.consumerCount == 0:
            return .warning("queue", message, remedy: "start a worker: seedream-worker run")
        default:
            return .ok("queue", message)
        }
    }

    /// A delivery is held while its job waits for its start, is submitted, and waits for the confirm of its reply.
    private var timeouts: Finding {
        let longest = GateState.longestHeldTotal + settings.apiTimeout + settings.apiConnectTimeout + .seconds(60)
        let shown = "a job is held for at most \(ShortDuration.text(longest))"
        let timeout = ShortDuration.text(settings.consumerTimeout)
        return longest < settings.consumerTimeout
            ? .ok("timeouts", "\(shown), queue.consumerTimeout is \(timeout)")
            : .warning(
                "timeouts",
                "\(shown), longer than queue.consumerTimeout, which is \(timeout)",
                remedy:
                    "lower api.timeout, or raise consumer_timeout in rabbitmq.conf and queue.consumerTimeout above it"
            )
    }
}
