import AMQP
import EditJob
import EditWorker
import HealthAPI
import Journal
import Logging
import NIOCore
import NIOPosix
import Prometheus
import SeedreamAPI
import SharedValues
import WorkerSettings

/// Puts the worker's parts together.
struct WorkerComposition {
    let service: EditWorkerService
    let sweeper: JournalSweeper
    /// Nil if nobody is to listen.
    let healthServer: HealthServer?
    private let inspector: QueueInspector
    private let client: SeedreamClient
    private let group: MultiThreadedEventLoopGroup
    private let journal: any SubmissionJournal

    init(_ settings: Settings, tokens: TokenSource, failFast: Bool, logger: Logger) throws {
        let identity = WorkerIdentity(version: Version.current)
        let queues = settings.queues
        // The ledger's stream is declared by the ledger.
        let topology = Topology(queues: queues, type: settings.queueType, mode: settings.queueTopology)
        let roles: [BrokerRole] = settings.journalStore == .ledger ? BrokerRole.allCases : [.consumer, .publisher]
        let registry = PrometheusRegistry(WorkerMetric.allCases.map(\.family), collect: ProcessMetrics.read)
        let metrics = WorkerMetrics(registry, version: Version.current, roles: roles)
        let ledger = Self.ledger(settings, identity, observer: metrics)
        let journal = try ledger ?? Self.localJournal(settings)
        self.journal = journal
        let admission = Admission(
            gate: Gate(minDelay: settings.gateMinDelay, maxDelay: settings.gateMaxDelay),
            rateLimit: settings.rateLimit,
            fleet: ledger,
            metrics: metrics,
            logger: logger
        )
        ledger?.connect(onChange: { admission.follow($0) }, gate: { admission.closedFor?.rawValue })
        let health = WorkerHealth(metrics: metrics, roles: roles) { ledger?.progress }
        sweeper = JournalSweeper(
            journal: journal,
            retention: settings.journalRetention,
            admission: admission,
            logger: logger
        )
        func options(_ purpose: String) -> AMQPConnectionOptions {
            var options = AMQPConnectionOptions(name: "seedream-worker \(identity.name) \(purpose)")
            options.product = "seedream-worker"
            options.heartbeat = settings.amqpHeartbeat
            options.tls = settings.amqpTLS
            // Whatever a producer sends, memory is bounded: by this for each job in flight, and by the room for larger ones.
            options.largestBody = settings.maxMessageBytes
            return options
        }
        func link<Session>(_ role: BrokerRole, _ setup: @escaping BrokerLink<Session>.Setup) -> BrokerLink<Session> {
            let options = options(role.rawValue)
            return BrokerLink(
                urls: settings.amqpURLs,
                options: options,
                role: role,
                health: health,
                logger: logger,
                setup: setup
            )
        }
        let consumer = link(.consumer) { connection throws(AMQPError) in
            try await topology.establish(on: connection)
            return connection
        }
        let publisher = link(.publisher) { connection throws(AMQPError) in try await connection.makePublisher() }
        let ledgerLink = ledger.map { ledger in
            link(.ledger) { connection throws(AMQPError) in try await ledger.attach(connection) }
        }
        inspector = QueueInspector(urls: settings.amqpURLs, options: options("inspector"))
        let messages = BrokerPublisher(
            publisher: publisher,
            consumer: consumer,
            inspector: inspector,
            topology: topology,
            logger: logger
        )
        let replies = ReplyAddress(queues: queues, allowed: settings.replyTo)
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        client = try SeedreamClient(Self.clientOptions(settings), group: group)
        let policy = RetryPolicy(
            maxAttempts: settings.maxAttempts,
            delays: settings.retryDelays,
            noAnswer: settings.noAnswer,
            gatewayError: settings.gatewayError
        )
        let observer = JobObserver(metrics: metrics, logger: logger)
        let decoder = JobDecoder(
            maxMessageBytes: settings.maxMessageBytes,
            unknownFields: settings.unknownFields,
            freshID: identity.freshID
        )
        let follow = FollowPolicy(
            choice: settings.followTasks,
            delays: settings.followDelays,
            deadline: settings.followDeadline
        )
        let settler = Settler(
            publisher: messages,
            queues: queues,
            replies: replies,
            identity: identity,
            metrics: metrics,
            follow: follow
        )
        let pipeline = JobPipeline(
            decoder: decoder,
            admission: admission,
            journal: JournalDesk(journal) { id, fault in
                // The desk keeps the verdict; but no more is submitted before the store takes it.
                observer.verdictNotWritten(id, fault)
                admission.report(fault.isOfLedger ? .ledger : .journal)
            },
            submitter: JobSubmitter(client, tokens: tokens, policy: policy, observer: observer),
            policy: policy,
            settler: settler,
            observer: observer
        )
        service = EditWorkerService(
            links: BrokerLinks(consumer: consumer, publisher: publisher, ledger: ledgerLink),
            journal: journal,
            queue: queues.jobs,
            prefetch: UInt16(clamping: Self.jobsInFlight(settings)),
            admission: admission,
            pipeline: pipeline,
            following: FollowIntake(
                queue: queues.follow,
                concurrency: UInt16(clamping: settings.followConcurrency),
                follower: Follower(
                    client,
                    tokens: tokens,
                    policy: follow,
                    rateLimit: settings.followRateLimit,
                    decoder: decoder,
                    settler: settler,
                    admission: admission,
                    observer: observer
                ) { task, failure in
                    ledger?.tellFollowed(task.job.key, taskID: task.taskID, code: failure?.code.rawValue)
                },
                logger: logger
            ),
            executor: EventLoopExecutor(group.next()),
            failFast: failFast,
            health: health,
            logger: logger
        )
        let group = group
        healthServer = settings.httpListen.map { address in
            HealthServer(
                host: address.host,
                port: address.port,
                group: group,
                registry: registry,
                lacks: { health.lacks(gate: admission.closedFor) },
                logger: logger
            )
        }
    }

    /// Under a rate limit no more jobs than can start within the wait that is held in the worker.
    private static func jobsInFlight(_ settings: Settings) -> Int {
        let limits = [settings.rateLimit, settings.fleetRateLimit].compactMap { $0 }
        return limits.reduce(settings.concurrency) { min($0, $1.mostHeld(within: Gate.longestHeldWait)) }
    }

    private static func clientOptions(_ settings: Settings) -> SeedreamClient.Options {
        var options = SeedreamClient.Options(
            baseURL: settings.apiBaseURL,
            // Submissions never wait for looks.
            connections: settings.concurrency + settings.followConcurrency,
            userAgent: "seedream-worker/\(Version.current)"
        )
        options.timeout = settings.apiTimeout
        options.connectTimeout = settings.apiConnectTimeout
        options.caFile = settings.apiCAFile
        return options
    }

    /// Opens the journal's store.
    ///
    /// Throws `JournalFault` where it cannot be used.
    func checkJournal() async throws(JournalFault) {
        try await journal.sweep(before: .min)
    }

    private static func localJournal(_ settings: Settings) throws -> any SubmissionJournal {
        guard case .sqlite(let path) = settings.journalStore else { return MemoryJournal() }
        return try SQLiteJournal(path: path)
    }

    /// Nil if the journal is another.
    private static func ledger(
        _ settings: Settings,
        _ identity: WorkerIdentity,
        observer: any LedgerJournal.Observer
    ) -> LedgerJournal? {
        guard let stream = settings.topology.ledger else { return nil }
        var options = LedgerJournal.Options(
            stream: stream,
            jobs: settings.queues.jobs,
            retention: settings.journalRetention,
            // A submission under way, and what it takes to notice that the connection is gone.
            patience: settings.apiTimeout + settings.apiConnectTimeout + .seconds(5),
            writer: identity.name,
            greeting: LedgerGreeting(version: identity.version, settings: settings.sharedByReplicas),
            mayDeclare: settings.queueTopology == .declare
        )
        options.rateLimit = settings.fleetRateLimit
        options.budget = settings.fleetBudget
        return LedgerJournal(options, observer: observer)
    }

    func shutdown() async throws {
        await inspector.close()
        await journal.close()
        try await client.shutdown()
        try await group.shutdownGracefully()
    }
}

extension WorkerMetric {
    /// The metric as Prometheus is told of it.
    fileprivate var family: MetricFamily {
        let kind: MetricFamily.Kind =
            switch kind {
            case .counter: .counter
            case .gauge: .gauge
            case .histogram(let bounds): .histogram(bounds)
            }
        return MetricFamily(name: rawValue, help: help, kind: kind)
    }
}
