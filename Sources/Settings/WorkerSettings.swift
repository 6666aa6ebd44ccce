package import EditJob
package import Logging
package import RabbitMQ
package import SharedValues

/// The effective settings of the program, checked.
package struct WorkerSettings: Sendable {
    package var amqpURLs: [AMQPURL] = []
    package var amqpCAFile: String?
    package var amqpCertFile: String?
    package var amqpKeyFile: String?
    package var amqpHeartbeat = Duration.zero
    package var queueName = ""
    /// The exchange that producers publish to; nil for one that is named like the job queue.
    package var jobsExchange: String?
    package var queueType = QueueType.quorum
    /// How long the broker lets a delivery be unacknowledged (RabbitMQ's "Consumers", "Delivery Acknowledgement Timeout").
    package var consumerTimeout = Duration.seconds(1800)
    package var queueTopology = TopologyMode.declare
    package var apiBaseURL = ""
    package var apiToken: APIToken?
    package var apiTimeout = Duration.zero
    package var apiConnectTimeout = Duration.zero
    package var apiCAFile: String?
    /// The proxy for the API; nil for none.
    package var apiProxy: ProxyAddress?
    /// The proxies of the environment, for whatever else is asked for.
    package var environmentProxies = EnvironmentProxies()
    package var concurrency = 0
    package var rateLimit: RateLimit?
    package var fleetRateLimit: RateLimit?
    package var fleetBudget: RateLimit?
    package var followTasks = FollowChoice.asked
    package var followDelays: [Duration] = []
    package var followDeadline = Duration.zero
    package var followRateLimit = RateLimit(count: 10, period: .seconds(1))
    package var followConcurrency = 0
    package var drainTimeout = Duration.zero
    package var maxMessageBytes = 0
    package var maxAttempts = 0
    package var retryDelays: [Duration] = []
    package var gateMinDelay = Duration.zero
    package var gateMaxDelay = Duration.zero
    package var noAnswer = DoubtPolicy.park
    package var gatewayError = DoubtPolicy.retry
    package var unknownFields = UnknownFieldPolicy.reject
    package var replyTo: [WildcardPattern] = []
    package var journalStore = JournalStore.ledger
    package var journalRetention = Duration.zero
    /// Users beside the own one whose records in the ledger count.
    package var journalWriters: [WildcardPattern] = []
    package var httpListen: ListenAddress?
    package var logLevel = Logger.Level.info
    package var logFormat = LogFormat.auto

    /// After a silence of that length a replica is gone: a submission under way, and what it takes to notice that a connection
    /// is gone and to make another.
    package var ledgerPatience: Duration { max(.seconds(40), apiTimeout + apiConnectTimeout + .seconds(15)) }

    /// The files for TLS to the broker.
    package var amqpTLS: AMQPConnectionOptions.TLS {
        var tls = AMQPConnectionOptions.TLS()
        tls.caFile = amqpCAFile
        tls.certFile = amqpCertFile
        tls.keyFile = amqpKeyFile
        return tls
    }

    /// Where the API's token comes from.
    package enum APIToken: Hashable, Sendable {
        case value(String)
        /// A file that is read again when it changes.
        case file(String)
    }

    /// Where submissions are remembered.
    package enum JournalStore: Hashable, Sendable {
        /// In a stream of the broker, shared by all replicas.
        case ledger
        case memory
        /// In an SQLite file, shared by the workers of one host.
        case sqlite(path: String)
    }

    /// An address to listen on.
    package struct ListenAddress: Hashable, Sendable {
        /// Host name or address, an IPv6 address without its brackets.
        package let host: String
        /// TCP port; 0 lets the system choose.
        package let port: Int

        package init(host: String, port: Int) {
            self.host = host
            self.port = port
        }

        /// Reads `HOST:PORT`, an IPv6 address in brackets; nil if the text is nothing of the kind.
        package init?(_ text: String) {
            guard let address = try? HostAndPort(text[...]), let port = address.port else { return nil }
            self.init(host: String(address.host), port: Int(port))
        }
    }

    /// The form of a log line.
    package enum LogFormat: String, CaseIterable, Sendable {
        /// One JSON object a line.
        case json
        /// A line for people.
        case text
        /// Text on a terminal, JSON elsewhere.
        case auto
    }

    init() {}
}
