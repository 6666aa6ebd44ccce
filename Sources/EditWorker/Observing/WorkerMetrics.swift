package import CoreMetrics
import EditJob
import Ledger
import NIOConcurrencyHelpers
import RabbitMQ
import SeedreamAPI
import SharedValues

/// Counts what a worker does.
///
/// From any thread. Every series with a fixed set of labels exists from the start, so that a rate is never missing its
/// zero.
package final class WorkerMetrics: Sendable {
    private let factory: any MetricsFactory
    private let received: [Bool: Counter]
    private let settled: [JobEnd.Label: Counter]
    private let failures: [JobFailure.Code: Counter]
    private let replies: [String: Counter]
    private let closures: [GateReason: Counter]
    private let reconnects: [BrokerRole: Counter]
    private let connected: [BrokerRole: Meter]
    private let blocked: [BrokerRole: Meter]
    private let ledgerRecords: [String: Counter]
    private let ledgerLag: Meter
    private let ledgerEntries: Meter
    private let fleetReplicas: Meter
    private let fleetBudget: Meter
    private let fleetPaused: Meter
    private let followed: [String: Counter]
    private let taskDuration: Timer
    private let anonymous: Counter
    private let linesDropped: Counter
    private let inFlight: Meter
    private let gateOpen: Meter
    private let duration: Timer
    private let age: Timer
    private let requests = NIOLockedValueBox<[RequestLabels: (Counter, Timer)]>([:])

    /// What is asked of the API.
    package enum Operation: String, Sendable {
        case submit, look
    }

    private struct RequestLabels: Hashable {
        let operation: Operation
        let status: Int?
    }

    /// Metrics in a backend, of connections for `roles`.
    package init(
        _ factory: any MetricsFactory,
        version: String,
        roles: [BrokerRole] = [.consumer, .publisher]
    ) {
        self.factory = factory
        func each<Key: Hashable>(_ metric: WorkerMetric, _ label: String, _ keys: [Key], _ name: (Key) -> String)
            -> [Key: Counter]
        {
            Dictionary(uniqueKeysWithValues: keys.map { ($0, .of(metric, [(label, name($0))], factory)) })
        }
        func meters(_ metric: WorkerMetric) -> [BrokerRole: Meter] {
            Dictionary(
                uniqueKeysWithValues: roles.map { role in
                    let meter = Meter(label: metric.rawValue, dimensions: [("role", role.rawValue)], factory: factory)
                    meter.set(0)
                    return (role, meter)
                }
            )
        }
        received = each(.jobsReceived, "redelivered", [false, true]) { "\($0)" }
        settled = each(.jobsSettled, "result", JobEnd.Label.allCases) { $0.rawValue }
        failures = each(.jobFailures, "code", JobFailure.Code.allCases) { $0.rawValue }
        replies = each(.replies, "result", PublishResult.labels) { $0 }
        closures = each(.gateClosures, "reason", GateReason.allCases) { $0.rawValue }
        reconnects = each(.reconnects, "role", roles) { $0.rawValue }
        connected = meters(.connected)
        blocked = meters(.blocked)
        let hasLedger = roles.contains(.ledger)
        ledgerRecords = each(.ledgerRecords, "kind", hasLedger ? LedgerRecord.kinds : []) { $0 }
        ledgerLag = Meter(label: WorkerMetric.ledgerLag.rawValue, factory: factory)
        ledgerEntries = Meter(label: WorkerMetric.ledgerEntries.rawValue, factory: factory)
        fleetReplicas = Meter(label: WorkerMetric.fleetReplicas.rawValue, factory: factory)
        fleetBudget = Meter(label: WorkerMetric.fleetBudget.rawValue, factory: factory)
        fleetPaused = Meter(label: WorkerMetric.fleetPaused.rawValue, factory: factory)
        if hasLedger {
            fleetReplicas.set(0)
            fleetPaused.set(0)
            ledgerLag.set(0)
            ledgerEntries.set(0)
        }
        followed = each(.tasksFollowed, "result", ["completed", "failed", "lost", "timeout"]) { $0 }
        taskDuration = Timer(label: WorkerMetric.taskDuration.rawValue, factory: factory)
        anonymous = .of(.jobsAnonymous, [], factory)
        linesDropped = .of(.logLinesDropped, [], factory)
        inFlight = Meter(label: WorkerMetric.jobsInFlight.rawValue, factory: factory)
        inFlight.set(0)
        gateOpen = Meter(label: WorkerMetric.gateOpen.rawValue, factory: factory)
        gateOpen.set(1)
        duration = Timer(label: WorkerMetric.jobDuration.rawValue, factory: factory)
        age = Timer(label: WorkerMetric.jobAge.rawValue, factory: factory)
        let info = Meter(label: WorkerMetric.buildInfo.rawValue, dimensions: [("version", version)], factory: factory)
        info.set(1)
    }

    /// A delivery has come.
    func received(redelivered: Bool) {
        received[redelivered]?.increment()
        inFlight.increment()
    }

    /// A delivery has its end, or is left to the broker.
    func left() {
        inFlight.decrement()
    }

    /// A delivery was settled; `elapsed` since it came, `age` since the job's timestamp.
    func settled(_ end: JobEnd, after elapsed: Duration, age: Duration?) {
        settled[end.label]?.increment()
        if let failure = end.verdict.failure { failures[failure.code]?.increment() }
        duration.recordNanoseconds(elapsed.wholeNanoseconds)
        if let age { self.age.recordNanoseconds(age.wholeNanoseconds) }
    }

    /// A task was followed to its end, `age` after its submission; nil if its images are there.
    func followed(_ failure: JobFailure?, after age: Duration) {
        let result =
            switch failure?.code {
            case nil: "completed"
            case .generationFailed: "failed"
            case .followTimeout: "timeout"
            default: "lost"
            }
        followed[result]?.increment()
        guard let failure else { return taskDuration.recordNanoseconds(age.wholeNanoseconds) }
        failures[failure.code]?.increment()
    }

    /// A job without an id.
    func anonymousJob() {
        anonymous.increment()
    }

    /// Log lines were dropped.
    package func droppedLines(_ count: Int) {
        linesDropped.increment(by: count)
    }

    /// A request has ended; nil if no answer came.
    func requested(_ operation: Operation, status: Int?, after elapsed: Duration) {
        // Three digits are all that HTTP has, whatever an API may send.
        let status = status.flatMap { (100...999).contains($0) ? $0 : nil }
        let key = RequestLabels(operation: operation, status: status)
        let (counter, timer) = requests.withLockedValue { requests in
            if let known = requests[key] { return known }
            let labels = [("operation", operation.rawValue), ("status", status.map { "\($0)" } ?? "none")]
            let timer = Timer(label: WorkerMetric.requestDuration.rawValue, dimensions: labels, factory: factory)
            let new = (Counter.of(.requests, labels, factory), timer)
            requests[key] = new
            return new
        }
        counter.increment()
        timer.recordNanoseconds(elapsed.wholeNanoseconds)
    }

    /// A reply was published, or could not be.
    func replied(_ result: PublishResult) {
        replies[result.label]?.increment()
    }

    /// The gate has closed for a reason, or opened.
    func gate(_ reason: GateReason?) {
        fleetPaused.set(reason == .paused ? 1 : 0)
        gateOpen.set(reason == nil ? 1 : 0)
        if let reason { closures[reason]?.increment() }
    }

    /// A connection is there, or gone.
    func connected(_ role: BrokerRole, _ isConnected: Bool, isFirst: Bool = true) {
        connected[role]?.set(isConnected ? 1 : 0)
        if isConnected, !isFirst { reconnects[role]?.increment() }
    }

    /// The broker blocks a connection, or no longer.
    func blocked(_ role: BrokerRole, _ isBlocked: Bool) {
        blocked[role]?.set(isBlocked ? 1 : 0)
    }
}

extension WorkerMetrics {
    package func read(_ kinds: [String: Int]) {
        for (kind, count) in kinds { (ledgerRecords[kind] ?? ledgerRecords["unknown"])?.increment(by: count) }
    }

    package func lagged(_ lag: Duration) {
        ledgerLag.set(lag / .seconds(1))
    }

    package func knowsFleet(replicas: Int, imagesLeft: Int?) {
        fleetReplicas.set(replicas)
        if let imagesLeft { fleetBudget.set(imagesLeft) }
    }

    package func remembers(_ entries: Int) {
        ledgerEntries.set(entries)
    }
}

extension Counter {
    fileprivate static func of(
        _ metric: WorkerMetric,
        _ dimensions: [(String, String)],
        _ factory: any MetricsFactory
    ) -> Counter {
        Counter(label: metric.rawValue, dimensions: dimensions, factory: factory)
    }
}

extension PublishResult {
    /// All values of `label`.
    static let labels = ["confirmed", "returned", "failed"]

    /// The result of a reply in metrics.
    fileprivate var label: String {
        switch self {
        case .confirmed: "confirmed"
        case .returned: "returned"
        case .refused: "failed"
        }
    }
}
