import EditJob
import EditWorker
import NIOConcurrencyHelpers
import OperatorTools
import RabbitMQ
import SharedValues

/// Looks at the queues every two seconds, and at the fleet as long as its page is open.
final class QueueSampler: Sendable {
    /// The queues at one moment.
    struct Sample: Sendable {
        let at: Timestamp
        /// In the order of `QueueSampler.Kind`; nil if there is no such queue.
        let counts: [Int?]
        let consumers: Int?
    }

    /// What is counted.
    enum Kind: Int, CaseIterable, Sendable {
        case jobs, retries, follow, deadLetters, unknown

        var title: String {
            switch self {
            case .jobs: "Jobs waiting"
            case .retries: "Waiting for a retry"
            case .follow: "Tasks followed"
            case .deadLetters: "Dead letters"
            case .unknown: "Unknown outcomes"
            }
        }

        /// Whether any message here needs a person.
        var wantsPerson: Bool { self == .deadLetters || self == .unknown }
    }

    struct State: Sendable {
        var samples: [Sample] = []
        /// Why the broker cannot be asked; nil while it can.
        var fault: String?
        var fleet: FleetView?
        /// Why there is nothing to say of the fleet.
        var fleetFault: String?
        /// Whether there is a ledger at all.
        var hasLedger = true
        /// Whether the fleet was read before, with whatever result.
        var knowsFleet: Bool { fleet != nil || fleetFault != nil || !hasLedger }
        fileprivate var lookedAt = ContinuousClock.now
    }

    private static let interval = Duration.seconds(2)
    /// Half an hour.
    private static let most = 900
    /// The fleet is read for this long after its page was shown.
    private static let interest = Duration.seconds(30)

    private let options: ConsoleOptions
    private let box = NIOLockedValueBox(State())

    init(_ options: ConsoleOptions) {
        self.options = options
    }

    /// What was seen last; asking keeps the fleet being read.
    var state: State {
        box.withLockedValue { state in
            state.lookedAt = .now
            return state
        }
    }

    /// Looks until the task is cancelled.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { [self] in await repeatedly { try await countAll() } }
            group.addTask { [self] in await watchFleet() }
        }
    }

    /// Keeps a connection for `body`, and begins anew when it fails.
    private func repeatedly(_ body: () async throws -> Void) async {
        while !Task.isCancelled {
            do {
                try await body()
            } catch {
                let fault = "\(error)"
                box.withLockedValue { $0.fault = fault }
            }
            try? await Task.sleep(for: Self.interval)
        }
    }

    private func countAll() async throws {
        try await options.broker.withConnection(for: "queues") { connection in
            while !Task.isCancelled {
                let sample = try await count(on: connection)
                box.withLockedValue { state in
                    state.fault = nil
                    state.samples.append(sample)
                    if state.samples.count > Self.most { state.samples.removeFirst() }
                }
                try await Task.sleep(for: Self.interval)
            }
        }
    }

    private func count(on connection: AMQPConnection) async throws -> Sample {
        func status(_ queue: ByteString) async throws -> QueueStatus? {
            do throws(AMQPError) {
                return try await connection.inspect(queue: queue)
            } catch {
                guard error.code == .notFound else { throw error }
                return nil
            }
        }
        func sum(_ queues: [ByteString]) async throws -> Int? {
            var sum: Int?
            for queue in queues {
                if let found = try await status(queue) { sum = (sum ?? 0) + Int(found.messageCount) }
            }
            return sum
        }
        let queues = options.queues
        let jobs = try await status(queues.jobs)
        let counts = [
            jobs.map { Int($0.messageCount) }, try await sum(queues.retries.map(\.name)),
            try await sum([queues.follow] + queues.followWaits.map(\.name)),
            try await sum([queues.deadLetters]), try await sum([queues.unknown]),
        ]
        return Sample(at: .now, counts: counts, consumers: jobs.map { Int($0.consumerCount) })
    }

    /// Reads the fleet now, after an order or for the first page.
    func readFleet() async {
        do {
            let fleet = try await options.broker.withConnection(for: "fleet") { connection in
                try await FleetView.read(options.queues.ledger, on: connection)
            }
            box.withLockedValue { state in
                state.fleet = fleet
                state.fleetFault = nil
                state.hasLedger = true
            }
        } catch let error as AMQPError where error.code == .notFound {
            box.withLockedValue { state in
                state.hasLedger = false
                state.fleet = nil
                state.fleetFault = nil
            }
        } catch {
            let fault = "\(error)"
            box.withLockedValue { $0.fleetFault = fault }
        }
    }

    private func watchFleet() async {
        while !Task.isCancelled {
            if box.withLockedValue({ .now - $0.lookedAt < Self.interest }) { await readFleet() }
            try? await Task.sleep(for: Self.interval)
        }
    }
}
