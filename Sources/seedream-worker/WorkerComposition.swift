import EditJob
import EditWorker
import Journal
import Ledger
import Logging
import NIOCore
import NIOPosix
import RabbitMQ
import SeedreamAPI
import Settings
import SharedValues
import Telemetry
import ThreadExecutor

/// Puts the worker's parts together.
struct WorkerComposition {
    let service: EditWorkerService
    let sweeper: JournalSweeper
    /// Nil if there is nothing to listen on.
    let healthServer: HealthServer?
    private let inspector: QueueInspector
    private let client: SeedreamClient
    private let group: MultiThreadedEventLoopGroup
    private let journal: any SubmissionJournal

    init(_ settings: WorkerSettings, tokens: TokenSource, failFast: Bool, logger: Logger, lines: LogLines) throws {
        let identity = WorkerIdentity(version: Version.current)
        let roles: [BrokerRole] = settings.journalStore == .ledger ? BrokerRole.allCases : [.consumer, .publisher]
        let registry = PrometheusRegistry(WorkerMetric.allCases.map(\.family), collect: ProcessMetrics.read)
        let metrics = WorkerMetrics(registry, version: Version.current, roles: roles)
        lines.onDrop { metrics.droppedLines($0) }
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let executor = EventLoopExecutor(group.next())
        let ledger = Self.ledger(
            settings,
            identity,
            executor,
            observer: LedgerObserver(metrics: metrics, logger: logger)
        )
        journal = try ledger ?? Self.localJournal(settings)
        let gate = Gate(
            machine: GateState(minDelay: settings.gateMinDelay, maxDelay: settings.gateMaxDelay),
            rateLimit: settings.rateLimit,
            fleet: ledger,
            metrics: metrics,
            logger: logger
        )
        let health = WorkerHealth(metrics: metrics, roles: roles) { ledger?.progress }
        client = try SeedreamClient(Self.clientOptions(settings), group: group)
        let broker = BrokerParts(settings, identity, ledger, health, logger)
        inspector = broker.inspector
        let jobs = JobParts(settings, identity, broker.publisher(logger), metrics, logger)
        let shared = jobs.journal(journal, gate)
        sweeper = JournalSweeper(
            journal: journal,
            retention: settings.journalRetention,
            gate: gate,
            logger: logger
        )
        service = EditWorkerService(
            links: broker.links,
            journal: journal,
            queue: settings.queues.jobs,
            prefetch: UInt16(clamping: Self.jobsInFlight(settings)),
            gate: gate,
            pipeline: jobs.pipeline(client, tokens, shared, gate),
            beside: [
                jobs.following(client, tokens, ledger, gate, settings), jobs.undelivered(shared, journal, settings),
            ],
            executor: executor,
            failFast: failFast,
            health: health,
            logger: logger
        )
        healthServer = settings.httpListen.map { [group] address in
            HealthServer(
                host: address.host,
                port: address.port,
                group: group,
                registry: registry,
                missing: { health.missing(gate: gate.closedFor) },
                logger: logger
            )
        }
    }

    /// Under a rate limit no more jobs than can start within the wait that is held in the worker.
    private static func jobsInFlight(_ settings: WorkerSettings) -> Int {
        let limits = [settings.rateLimit, settings.fleetRateLimit].compactMap { $0 }
        return limits.reduce(settings.concurrency) { min($0, $1.mostHeld(within: GateState.longestHeldWait)) }
    }

    private static func clientOptions(_ settings: WorkerSettings) -> SeedreamClient.Options {
        var options = SeedreamClient.Options(
            baseURL: settings.apiBaseURL,
            // Submissions never wait for looks.
            connections: settings.concurrency + settings.followConcurrency,
            userAgent: "seedream-worker/\(Version.current)"
        )
        options.timeout = settings.apiTimeout
        options.connectTimeout = settings.apiConnectTimeout
        options.caFile = settings.apiCAFile
        options.proxy = settings.apiProxy
        return options
    }

    /// Opens the journal's store.
    ///
    /// Throws `JournalFault` where it cannot be used.
    func checkJournal() async throws(JournalFault) {
        try await journal.sweep(before: .min)
    }

    private static func localJournal(_ settings: WorkerSettings) throws -> any SubmissionJournal {
        guard case .sqlite(let path) = settings.journalStore else { return MemoryJournal() }
        return try SQLiteJournal(path: path)
    }

    /// Nil if the journal is another.
    private static func ledger(
        _ settings: WorkerSettings,
        _ identity: WorkerIdentity,
        _ executor: any TaskExecutor,
        observer: any LedgerJournal.Observer
    ) -> LedgerJournal? {
        guard let stream = settings.topology.ledger else { return nil }
        var replica = LedgerReplica.Options(
            name: LedgerJournal.freshName,
            writer: identity.name,
            greeting: LedgerGreeting(version: identity.version, settings: settings.sharedByReplicas),
            startedAt: Timestamp.now.milliseconds,
            retention: settings.journalRetention,
            patience: settings.ledgerPatience
        )
        replica.consumerTimeout = settings.consumerTimeout
        replica.writers = settings.journalWriters
        replica.countsHolders = settings.queueType == .quorum
        replica.rateLimit = settings.fleetRateLimit
        replica.budget = settings.fleetBudget
        var options = LedgerJournal.Options(
            replica: replica,
            stream: stream,
            jobs: settings.queues.jobs,
            mayDeclare: settings.queueTopology == .declare
        )
        options.undelivered = settings.queues.undelivered
        options.executor = executor
        return LedgerJournal(options, observer: observer)
    }

    func shutdown() async throws {
        await inspector.close()
        await journal.close()
        try await client.shutdown()
        try await group.shutdownGracefully()
    }
}

/// The connections to the broker, and what goes over them.
private struct BrokerParts {
    let links: BrokerLinks
    let inspector: QueueInspector
    private let topology: Topology
    private let health: WorkerHealth

    init(
        _ settings: WorkerSettings,
        _ identity: WorkerIdentity,
        _ ledger: LedgerJournal?,
        _ health: WorkerHealth,
        _ logger: Logger
    ) {
        // The ledger's stream is declared by the ledger.
        let topology = Topology(
            queues: settings.queues,
            type: settings.queueType,
            mode: settings.queueTopology,
            exchange: settings.topology.exchange.name
        )
        self.topology = topology
        self.health = health
        func options(_ purpose: String) -> AMQPConnectionOptions {
            var options = AMQPConnectionOptions(name: "seedream-worker \(identity.name) \(purpose)")
            options.product = "seedream-worker"
            options.heartbeat = settings.amqpHeartbeat
            options.tls = settings.amqpTLS
            // Whatever a producer sends, memory is bounded by this for each job in flight.
            options.largestBody = settings.maxMessageBytes
            guard purpose == BrokerRole.ledger.rawValue else { return options }
            // A record that is not kept whole would be one that is not known.
            options.largestBody = 16 << 20
            // A node that is frozen is given up after 20 s: no question may hold that up for longer.
            options.rpcTimeout = .seconds(8)
            return options
        }
        func link<Session>(_ role: BrokerRole, _ setup: @escaping BrokerLink<Session>.Setup) -> BrokerLink<Session> {
            BrokerLink(
                urls: settings.amqpURLs,
                options: options(role.rawValue),
                role: role,
                health: health,
                logger: logger,
                setup: setup
            )
        }
        links = BrokerLinks(
            consumer: link(.consumer) { connection throws(AMQPError) in
                try await topology.establish(on: connection)
                return connection
            },
            publisher: link(.publisher) { connection throws(AMQPError) in try await connection.makePublisher() },
            ledger: ledger.map { ledger in
                link(.ledger) { connection throws(AMQPError) in try await ledger.attach(connection) }
            }
        )
        inspector = QueueInspector(urls: settings.amqpURLs, options: options("inspector")) { fault in
            health.note(missing: "inspector connection", fault?.message)
            guard let fault else { return logger.log(.info, "the broker can be asked for direct replies again") }
            logger.log(
                .warning,
                "no connection to ask for direct replies; jobs that want one go back to their queue",
                [.error: fault.message, .code: fault.shortDescription, .remedy: fault.remedy]
            )
        }
    }

    func publisher(_ logger: Logger) -> BrokerPublisher {
        BrokerPublisher(
            publisher: links.publisher,
            consumer: links.consumer,
            inspector: inspector,
            topology: topology,
            health: health,
            logger: logger
        )
    }
}

/// What a job meets on its way, and its task afterwards.
private struct JobParts {
    private let decoder: JobDecoder
    private let policy: RetryPolicy
    private let follow: FollowPolicy
    private let settler: Settler
    private let observer: JobObserver
    private let logger: Logger

    init(
        _ settings: WorkerSettings,
        _ identity: WorkerIdentity,
        _ publisher: BrokerPublisher,
        _ metrics: WorkerMetrics,
        _ logger: Logger
    ) {
        self.logger = logger
        decoder = JobDecoder(
            maxMessageBytes: settings.maxMessageBytes,
            unknownFields: settings.unknownFields,
            freshID: identity.freshID
        )
        policy = RetryPolicy(
            maxAttempts: settings.maxAttempts,
            delays: settings.retryDelays,
            noAnswer: settings.noAnswer,
            gatewayError: settings.gatewayError
        )
        follow = FollowPolicy(
            choice: settings.followTasks,
            delays: settings.followDelays,
            deadline: settings.followDeadline
        )
        settler = Settler(
            publisher: publisher,
            queues: settings.queues,
            replies: ReplyAddress(queues: settings.queues, allowed: settings.replyTo),
            identity: identity,
            metrics: metrics,
            follow: follow
        )
        observer = JobObserver(metrics: metrics, logger: logger)
    }

    func journal(_ store: any SubmissionJournal, _ gate: Gate) -> JobJournal {
        JobJournal(store) { [observer] id, fault in
            // It is kept; but no more is submitted before the store takes it.
            observer.verdictNotWritten(id, fault)
            gate.report(fault.gateReason)
        }
    }

    func undelivered(
        _ journal: JobJournal,
        _ store: any SubmissionJournal,
        _ settings: WorkerSettings
    ) -> SideIntake {
        let jobs = UndeliveredJobs(decoder: decoder, journal: journal, settler: settler, observer: observer)
        return SideIntake(
            queue: settings.queues.undelivered,
            prefetch: UInt16(clamping: min(settings.concurrency, 100)),
            logger: logger,
            untilReady: { await store.waitUntilReady() },
            take: { await jobs.take($0) }
        )
    }

    func pipeline(
        _ client: SeedreamClient,
        _ tokens: TokenSource,
        _ journal: JobJournal,
        _ gate: Gate
    ) -> JobPipeline {
        JobPipeline(
            decoder: decoder,
            gate: gate,
            journal: journal,
            submitter: JobSubmitter(client, tokens: tokens, policy: policy, observer: observer),
            policy: policy,
            settler: settler,
            observer: observer
        )
    }

    func following(
        _ client: SeedreamClient,
        _ tokens: TokenSource,
        _ ledger: LedgerJournal?,
        _ gate: Gate,
        _ settings: WorkerSettings
    ) -> SideIntake {
        let follower = Follower(
            client,
            tokens: tokens,
            policy: follow,
            rateLimit: settings.followRateLimit,
            decoder: decoder,
            settler: settler,
            gate: gate,
            observer: observer
        ) { task, failure in
            ledger?.tellFollowed(task.job.key, taskID: task.taskID, code: failure?.code.rawValue)
        }
        // Whatever `follow.tasks` says of new ones: each was promised a look, perhaps by another replica.
        return SideIntake(
            queue: settings.queues.follow,
            prefetch: UInt16(clamping: settings.followConcurrency),
            logger: logger
        ) { await follower.take($0) }
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
