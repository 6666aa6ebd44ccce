import EditJob
import Logging
import RabbitMQ
import SharedValues

/// All settings, in the order of the documentation.
///
/// A new one also has its value in `WorkerSettings.swift`; the program hands it on in `WorkerComposition.swift`.
package enum SettingCatalogue {
    package static let all: [SettingDefinition] = amqp + queue + api + worker + following + policies + observing

    private static let amqp: [SettingDefinition] = [
        SettingDefinition(
            "amqp.url",
            default: "amqp://guest:guest@127.0.0.1:5672/",
            "The broker's URL, or several separated by commas: the nodes of a cluster, tried in turn.",
            allowed: "amqp://user:password@host:port/vhost or amqps://…, percent-encoded",
            isSecret: true
        ) { text, settings throws(SettingDefinition.Refusal) in
            settings.amqpURLs = try SettingText.urls(text)
        }
        .showing { text in (try? SettingText.urls(text))?.map(\.redactedWithUser).joined(separator: ",") },
        file(
            "amqp.caFile",
            "A PEM file with the certificate authorities to trust for amqps, instead of the system's.",
            \.amqpCAFile
        ),
        file("amqp.certFile", "A PEM file with the client certificate for amqps.", \.amqpCertFile),
        file("amqp.keyFile", "A PEM file with the key of the client certificate.", \.amqpKeyFile),
        duration(
            "amqp.heartbeat",
            "15s",
            "The heartbeat interval of broker connections, in whole seconds.",
            \.amqpHeartbeat,
            from: .seconds(1)
        ),
    ]

    private static let queue: [SettingDefinition] = [
        SettingDefinition(
            "queue.name",
            default: "seedream.edit",
            "The name of the job queue. The other queues are named after it.",
            allowed: "1 to 200 bytes, not starting with amq."
        ) { text, settings throws(SettingDefinition.Refusal) in
            // 255 bytes are AMQP's limit; the longest of the other names needs the rest.
            settings.queueName = try SettingText.name(text)
        },
        SettingDefinition(
            "jobs.exchange",
            default: nil,
            "The exchange that producers publish jobs to. Without one it is named like the job queue.",
            allowed: "1 to 200 bytes, not starting with amq."
        ) { text, settings throws(SettingDefinition.Refusal) in
            settings.jobsExchange = try SettingText.name(text)
        },
        choice("queue.type", "quorum", "The type of all queues.", \.queueType),
        duration(
            "queue.consumerTimeout",
            "30m",
            "At least the broker's consumer_timeout, which no client can ask for.",
            \.consumerTimeout,
            from: .seconds(1)
        ),
        choice(
            "queue.topology",
            "declare",
            "Whether the worker declares the queues, or only checks that they exist.",
            \.queueTopology
        ),
    ]

    private static let api: [SettingDefinition] = [
        SettingDefinition(
            "api.baseUrl",
            default: "https://api.sinancode.com",
            "The URL of the API, without the path of the operation.",
            allowed: "an http or https URL without query, fragment and user"
        ) { text, settings throws(SettingDefinition.Refusal) in
            settings.apiBaseURL = try SettingText.baseURL(text)
        },
        SettingDefinition(
            "api.token",
            default: nil,
            "The bearer token of the API. Required by run.",
            allowed: "visible ASCII without blanks; better in a file, named by api.tokenFile",
            isSecret: true
        ) { text, settings throws(SettingDefinition.Refusal) in
            guard let token = SecretFile.token(in: text), token == text else { throw .init() }
            settings.apiToken = .value(token)
        },
        SettingDefinition(
            "api.tokenFile",
            default: nil,
            "A file with the token. It is read again when it changes and after a 401.",
            allowed: "the path of a file that holds the token and nothing else"
        ) { text, settings throws(SettingDefinition.Refusal) in
            _ = try SettingText.secret(inFile: text)
            settings.apiToken = .file(text)
        },
        duration(
            "api.timeout",
            "60s",
            "Maximum time per submission, from the start to the last byte of the answer.",
            \.apiTimeout,
            from: .milliseconds(1)
        ),
        duration(
            "api.connectTimeout",
            "5s",
            "Maximum time to connect to the API, TLS included.",
            \.apiConnectTimeout,
            from: .milliseconds(1)
        ),
        file(
            "api.caFile",
            "A PEM file with the certificate authorities to trust for the API, instead of the system's.",
            \.apiCAFile
        ),
        SettingDefinition(
            "api.proxy",
            default: nil,
            "The HTTP proxy for the API. Without one, HTTPS_PROXY (HTTP_PROXY for an http API) and NO_PROXY apply.",
            allowed: "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, percent-encoded, or none",
            isSecret: true
        ) { text, settings throws(SettingDefinition.Refusal) in
            settings.apiProxy = try SettingText.proxy(text)
        },
    ]

    private static let worker: [SettingDefinition] = [
        integer(
            "worker.concurrency",
            "50",
            "Maximum number of jobs in flight. It is also the prefetch count.",
            \.concurrency,
            1...65535
        ),
        SettingDefinition(
            "worker.rateLimit",
            default: nil,
            "Maximum submissions per interval for this process, such as 18/10s.",
            allowed: "a count from 1 to 1000000 and a duration, such as 18/10s"
        ) { text, settings throws(SettingDefinition.Refusal) in
            guard let limit = RateLimit(text) else { throw .init() }
            guard limit.interval <= RateLimit.longestInterval else {
                throw .init(reason: "one start in more than 15s is less than a worker can hold jobs for")
            }
            settings.rateLimit = limit
        },
        SettingDefinition(
            "fleet.rateLimit",
            default: nil,
            "Maximum submissions per interval for all replicas together, such as 20/10s. Needs journal.store=ledger.",
            allowed: "a count from 1 to 10000 and a duration from 1s, such as 20/10s"
        ) { text, settings throws(SettingDefinition.Refusal) in
            guard let limit = RateLimit(text), limit.count <= 10_000, limit.period >= .seconds(1) else { throw .init() }
            guard limit.interval <= RateLimit.longestInterval else {
                throw .init(reason: "one start in more than 15s is less than a worker can hold jobs for")
            }
            settings.fleetRateLimit = limit
        },
        SettingDefinition(
            "fleet.budget",
            default: nil,
            "Maximum images per interval for all replicas together, such as 500/24h. Needs journal.store=ledger.",
            allowed: "a count from 1 to 1000000 and a duration, such as 500/24h"
        ) { text, settings throws(SettingDefinition.Refusal) in
            guard let budget = RateLimit(text) else { throw .init() }
            settings.fleetBudget = budget
        },
        duration(
            "worker.drainTimeout",
            "25s",
            "How long to wait for jobs in flight when the worker is told to stop.",
            \.drainTimeout,
            from: .zero
        ),
        SettingDefinition(
            "worker.maxMessageBytes",
            default: "256KiB",
            "Maximum size of a job's message body.",
            allowed: "a size such as 64KiB or 1MiB, at most 128MiB"
        ) { text, settings throws(SettingDefinition.Refusal) in
            guard let size = SettingText.size(text), (1...(128 << 20)).contains(size) else { throw .init() }
            settings.maxMessageBytes = size
        },
    ]

    private static let following: [SettingDefinition] = [
        choice(
            "follow.tasks",
            "asked",
            "Which tasks are followed to their images: those of jobs with the header x-follow, of all, or of none.",
            \.followTasks
        ),
        SettingDefinition(
            "follow.delays",
            default: "3s,10s,30s",
            "The delays between two looks at a task: the first for 30s, the second until 2m, then the last.",
            allowed: "durations from 1ms, separated by commas"
        ) { text, settings throws(SettingDefinition.Refusal) in
            settings.followDelays = try SettingText.list(text) { part in
                DurationText.parse(part).flatMap { $0 > .zero ? $0 : nil }
            }
        },
        duration(
            "follow.deadline",
            "15m",
            "How long after its submission a task is followed.",
            \.followDeadline,
            from: .seconds(1)
        ),
        SettingDefinition(
            "follow.rateLimit",
            default: "10/1s",
            "Maximum looks per interval for this process.",
            allowed: "a count from 1 to 1000000 and a duration, such as 10/1s"
        ) { text, settings throws(SettingDefinition.Refusal) in
            guard let limit = RateLimit(text) else { throw .init() }
            settings.followRateLimit = limit
        },
        integer(
            "follow.concurrency",
            "20",
            "Maximum number of looks under way at once.",
            \.followConcurrency,
            1...65535
        ),
    ]

    private static let policies: [SettingDefinition] = [
        integer("retry.maxAttempts", "5", "Maximum number of counted submissions per job.", \.maxAttempts, 1...1000),
        SettingDefinition(
            "retry.delays",
            default: "1s,5s,30s,2m,10m",
            "The delays before a job is submitted again, one retry queue each. The last one repeats.",
            allowed: "durations from 1ms, separated by commas"
        ) { text, settings throws(SettingDefinition.Refusal) in
            settings.retryDelays = try SettingText.list(text) { part in
                DurationText.parse(part).flatMap { $0 > .zero ? $0 : nil }
            }
        },
        duration(
            "gate.minDelay",
            "1s",
            "The first pause after a failure of the whole service.",
            \.gateMinDelay,
            from: .milliseconds(1)
        ),
        duration(
            "gate.maxDelay",
            "60s",
            "The longest pause. Each failed probe doubles it up to this.",
            \.gateMaxDelay,
            from: .milliseconds(1)
        ),
        choice("policy.noAnswer", "park", "What to do with a submission that was sent and never answered.", \.noAnswer),
        choice(
            "policy.gatewayError",
            "retry",
            "What to do after a 500, 502, 504 or the like, which do not say whether the job was accepted.",
            \.gatewayError
        ),
        choice(
            "policy.unknownFields",
            "reject",
            "What to do with a job's field that this version does not know.",
            \.unknownFields
        ),
        SettingDefinition(
            "policy.replyTo",
            default: "*",
            "Patterns of the queues that a job may name in reply_to.",
            allowed: "patterns with * and ?, separated by commas"
        ) { text, settings throws(SettingDefinition.Refusal) in
            settings.replyTo = try SettingText.list(text) { WildcardPattern($0) }
        },
    ]

    private static let observing: [SettingDefinition] = [
        SettingDefinition(
            "journal.store",
            default: "ledger",
            "Where submissions are remembered, so that no job is paid for twice: in a stream of the broker, which all "
                + "replicas share, in a file of this host, or in this process.",
            allowed: "ledger, sqlite:PATH or memory"
        ) { text, settings throws(SettingDefinition.Refusal) in
            if text == "ledger" {
                settings.journalStore = .ledger
            } else if text == "memory" {
                settings.journalStore = .memory
            } else if text.hasPrefix("sqlite:"), text.count > 7 {
                settings.journalStore = .sqlite(path: String(text.dropFirst(7)))
            } else {
                throw .init()
            }
        },
        duration(
            "journal.retention",
            "72h",
            "How long submissions are remembered.",
            \.journalRetention,
            from: .seconds(1)
        ),
        SettingDefinition(
            "journal.writers",
            default: nil,
            "Broker users, beside the worker's own, whose records in the ledger count: the operator's, for fleet pause.",
            allowed: "names or patterns with *, separated by commas"
        ) { text, settings throws(SettingDefinition.Refusal) in
            settings.journalWriters = try SettingText.list(text) { WildcardPattern($0) }
        },
        SettingDefinition(
            "http.listen",
            default: "127.0.0.1:9464",
            "The address of the health and metrics endpoints.",
            allowed: "HOST:PORT, or off"
        ) { text, settings throws(SettingDefinition.Refusal) in
            guard text != "off" else {
                settings.httpListen = nil
                return
            }
            guard let address = WorkerSettings.ListenAddress(text) else { throw .init() }
            settings.httpListen = address
        },
        choice("log.level", "info", "The lowest level that is logged.", \.logLevel),
        choice(
            "log.format",
            "auto",
            "The form of log lines: JSON objects or text. With auto it is text on a terminal.",
            \.logFormat
        ),
    ]

    // MARK: - Kinds of settings

    private static func file(
        _ key: String,
        _ meaning: String,
        _ path: any WritableKeyPath<WorkerSettings, String?> & Sendable
    ) -> SettingDefinition {
        SettingDefinition(key, default: nil, meaning, allowed: "the path of a readable PEM file") {
            text,
            settings throws(SettingDefinition.Refusal) in
            guard SecretFile.text(at: text) != nil else {
                throw .init(reason: "the file cannot be read; check that it exists and its permissions")
            }
            settings[keyPath: path] = text
        }
    }

    private static func duration(
        _ key: String,
        _ defaultText: String,
        _ meaning: String,
        _ path: any WritableKeyPath<WorkerSettings, Duration> & Sendable,
        from least: Duration
    ) -> SettingDefinition {
        let allowed = "a duration such as 250ms, 30s, 5m or 1h, at least \(DurationText.text(least))"
        return SettingDefinition(key, default: defaultText, meaning, allowed: allowed) {
            text,
            settings throws(SettingDefinition.Refusal) in
            guard let duration = DurationText.parse(text), duration >= least else { throw .init() }
            settings[keyPath: path] = duration
        }
    }

    private static func integer(
        _ key: String,
        _ defaultText: String,
        _ meaning: String,
        _ path: any WritableKeyPath<WorkerSettings, Int> & Sendable,
        _ range: ClosedRange<Int>
    ) -> SettingDefinition {
        let allowed = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return SettingDefinition(key, default: defaultText, meaning, allowed: allowed) {
            text,
            settings throws(SettingDefinition.Refusal) in
            guard let number = Int(text), range.contains(number) else { throw .init() }
            settings[keyPath: path] = number
        }
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable & Sendable>(
        _ key: String,
        _ defaultText: String,
        _ meaning: String,
        _ path: any WritableKeyPath<WorkerSettings, Choice> & Sendable
    ) -> SettingDefinition {
        let names = Choice.allCases.map(\.rawValue)
        let allowed = names.dropLast().joined(separator: ", ") + " or " + (names.last ?? "")
        return SettingDefinition(key, default: defaultText, meaning, allowed: allowed) {
            text,
            settings throws(SettingDefinition.Refusal) in
            guard let choice = Choice(rawValue: text) else {
                throw .init(reason: NearestName.of(text, among: names).map { "did you mean \($0)?" })
            }
            settings[keyPath: path] = choice
        }
    }
}
