import CoreMetrics
import EditJob
import EditWorker
import Journal
import Logging
import SeedreamAPI
import SharedValues

extension JobPipeline {
    private static let quiet = Logger(label: "quiet", factory: { _ in SwiftLogNoOpLogHandler() })

    /// A pipeline whose effects are on a simulated world.
    static func simulated(
        in world: SimulatedWorld,
        _ journal: any SubmissionJournal,
        gateway: DoubtPolicy = .retry,
        noAnswer: DoubtPolicy = .park,
        maxAttempts: Int = 3,
        gate: Gate? = nil,
        publisher: (any MessagePublisher)? = nil
    ) -> JobPipeline {
        let publisher = publisher ?? world
        let queues = JobQueues(name: "q", retryDelays: [.milliseconds(1)])
        let replies = ReplyAddress(queues: queues, allowed: [WildcardPattern("*")])
        let identity = WorkerIdentity(version: "test")
        let observer = JobObserver(metrics: .silent, logger: quiet)
        let gate = gate ?? .simulated()
        let policy = RetryPolicy(
            maxAttempts: maxAttempts,
            delays: [.milliseconds(1)],
            noAnswer: noAnswer,
            gatewayError: gateway
        )
        return JobPipeline(
            decoder: JobDecoder(maxMessageBytes: 1000, unknownFields: .reject, freshID: identity.freshID),
            gate: gate,
            journal: JobJournal(StoppableJournal(journal: journal, world: world)) { _, _ in
                gate.report(.journal)
            },
            submitter: JobSubmitter(world, tokens: TokenSource(value: "t"), policy: policy, observer: observer),
            policy: policy,
            settler: Settler(
                publisher: publisher,
                queues: queues,
                replies: replies,
                identity: identity,
                metrics: .silent
            ),
            observer: observer
        )
    }
}

extension UndeliveredJobs {
    /// Over a simulated world.
    static func simulated(in world: SimulatedWorld, _ journal: any SubmissionJournal) -> UndeliveredJobs {
        let queues = JobQueues(name: "q", retryDelays: [.milliseconds(1)])
        let identity = WorkerIdentity(version: "test")
        return UndeliveredJobs(
            decoder: JobDecoder(maxMessageBytes: 1000, unknownFields: .reject, freshID: identity.freshID),
            journal: JobJournal(StoppableJournal(journal: journal, world: world)),
            settler: Settler(
                publisher: world,
                queues: queues,
                replies: ReplyAddress(queues: queues, allowed: [WildcardPattern("*")]),
                identity: identity,
                metrics: .silent
            ),
            observer: JobObserver(metrics: .silent, logger: Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }),
            pause: .microseconds(1)
        )
    }
}

extension Gate {
    /// A gate that is closed for no time worth mentioning.
    static func simulated(
        machine: GateState = GateState(minDelay: .microseconds(1), maxDelay: .microseconds(1)),
        rateLimit: RateLimit? = nil,
        fleet: (any Fleet)? = nil
    ) -> Gate {
        Gate(
            machine: machine,
            rateLimit: rateLimit,
            fleet: fleet,
            metrics: .silent,
            logger: Logger(label: "quiet", factory: { _ in SwiftLogNoOpLogHandler() })
        )
    }
}

extension WorkerMetrics {
    /// Counts for nobody.
    static var silent: WorkerMetrics { WorkerMetrics(NOOPMetricsHandler.instance, version: "test") }
}
