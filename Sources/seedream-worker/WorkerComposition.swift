import AMQP
import EditWorker
import Logging
import NIOCore
import NIOPosix
import SeedreamAPI
import WorkerSettings

/// Puts the worker's parts together.
struct WorkerComposition {
    let service: EditWorkerService
    let sweeper: JournalSweeper
    private let client: SeedreamClient
    private let group: MultiThreadedEventLoopGroup
    private let journal: any SubmissionJournal

    init(_ settings: Settings, tokens: TokenSource, failFast: Bool, logger: Logger) throws {
        journal = Self.journal(settings)
        let identity = WorkerIdentity(version: Version.current)
        let queues = JobQueues(name: settings.queueName, retryDelays: settings.retryDelays)
        let topology = Topology(queues: queues, type: settings.queueType, mode: settings.queueTopology)
        let admission = Admission(
            gate: Gate(minDelay: settings.gateMinDelay, maxDelay: settings.gateMaxDelay),
            rateLimit: settings.rateLimit,
            logger: logger
        )
        sweeper = JournalSweeper(
            journal: journal,
            retention: settings.journalRetention,
            admission: admission,
            logger: logger
        )
        func link(_ role: BrokerLink.Role, _ setup: @escaping BrokerLink.Setup) -> BrokerLink {
            var options = AMQPConnectionOptions(name: "seedream-worker \(identity.name) \(role.rawValue)")
            options.heartbeat = settings.amqpHeartbeat
            options.tls = settings.amqpTLS
            return BrokerLink(urls: settings.amqpURLs, options: options, role: role, logger: logger, setup: setup)
        }
        let consumer = link(.consumer) { try await topology.establish(on: $0) }
        let publisher = link(.publisher) { try await $0.selectConfirms() }
        let messages = BrokerPublisher(publisher: publisher, consumer: consumer, topology: topology, logger: logger)
        let replies = ReplyAddress(queues: queues, allowed: settings.replyTo)
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        client = try SeedreamClient(Self.clientOptions(settings), group: group)
        let pipeline = JobPipeline(
            decoder: JobDecoder(maxMessageBytes: settings.maxMessageBytes, unknownFields: settings.unknownFields),
            admission: admission,
            tokens: tokens,
            submitter: client,
            journal: JournalDesk(journal),
            policy: RetryPolicy(
                maxAttempts: settings.maxAttempts,
                delays: settings.retryDelays,
                noAnswer: settings.noAnswer,
                gatewayError: settings.gatewayError
            ),
            replies: replies,
            publisher: messages,
            settler: Settler(
                publisher: messages,
                queues: queues,
                replies: replies,
                identity: identity
            ),
            identity: identity,
            logger: logger
        )
        service = EditWorkerService(
            consumer: consumer,
            publisher: publisher,
            queue: queues.jobs,
            prefetch: UInt16(clamping: Self.jobsInFlight(settings)),
            admission: admission,
            pipeline: pipeline,
            failFast: failFast,
            logger: logger
        )
    }

    /// Under a rate limit no more jobs than can start within the wait that is held in the worker.
    private static func jobsInFlight(_ settings: Settings) -> Int {
        let held = settings.rateLimit?.mostHeld(within: Gate.longestHeldWait) ?? Int.max
        return min(settings.concurrency, held)
    }

    private static func clientOptions(_ settings: Settings) -> SeedreamClient.Options {
        var options = SeedreamClient.Options(
            baseURL: settings.apiBaseURL,
            connections: settings.concurrency,
            version: Version.current
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

    private static func journal(_ settings: Settings) -> any SubmissionJournal {
        switch settings.journalStore {
        case .memory: MemoryJournal()
        case .sqlite(let path): SQLiteJournal(path: path)
        }
    }

    func shutdown() async throws {
        await journal.close()
        try await client.shutdown()
        try await group.shutdownGracefully()
    }
}
