import Foundation
import RabbitMQ
import Settings
import SharedValues
import Testing

struct SettingsReaderTests {
    private static func read(
        flags: [String: String] = [:],
        _ environment: [String: String] = [:],
        file: String? = nil
    ) throws -> SettingsReader.Result {
        guard let file else {
            return try SettingsReader(flags: flags, environment: environment, configPath: nil).read()
        }
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).yaml")
        try Data(file.utf8).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        return try SettingsReader(flags: flags, environment: environment, configPath: url.path).read()
    }

    private static func faults(_ environment: [String: String], file: String? = nil) -> [String] {
        do {
            _ = try read(environment, file: file)
            return []
        } catch let faults as SettingsReader.Faults {
            return faults.all.map(\.description)
        } catch {
            return ["\(error)"]
        }
    }

    @Test func `the defaults are the contract's`() throws {
        let settings = try Self.read().settings
        #expect(settings.queueName == "seedream.edit")
        #expect(settings.concurrency == 50)
        #expect(settings.retryDelays == [.seconds(1), .seconds(5), .seconds(30), .seconds(120), .seconds(600)])
        #expect(settings.maxMessageBytes == 262_144)
        #expect(settings.apiBaseURL == "https://api.sinancode.com")
        #expect(settings.amqpURLs.map(\.redacted) == ["amqp://127.0.0.1:5672/"])
        #expect(settings.amqpURLs.first?.credentials?.user == "guest")
        #expect(settings.journalRetention == .seconds(72 * 3600))
        #expect(settings.httpListen == WorkerSettings.ListenAddress(host: "127.0.0.1", port: 9464))
        #expect(settings.noAnswer == .park)
        #expect(settings.gatewayError == .retry)
    }

    @Test func `what Kubernetes and Docker make of a service's name is no setting`() {
        let service = [
            "SEEDREAM_CONSOLE_SERVICE_HOST": "10.0.0.1", "SEEDREAM_CONSOLE_SERVICE_PORT": "9470",
            "SEEDREAM_CONSOLE_SERVICE_PORT_HTTP": "9470", "SEEDREAM_CONSOLE_PORT": "tcp://10.0.0.1:9470",
            "SEEDREAM_CONSOLE_PORT_9470_TCP": "tcp://10.0.0.1:9470", "SEEDREAM_CONSOLE_PORT_9470_TCP_PROTO": "tcp",
            "SEEDREAM_CONSOLE_PORT_9470_TCP_PORT": "9470", "SEEDREAM_CONSOLE_PORT_9470_TCP_ADDR": "10.0.0.1",
            "SEEDREAM_DNS_PORT": "udp://10.0.0.2:53", "SEEDREAM_DNS_PORT_53_UDP": "udp://10.0.0.2:53",
            "SEEDREAM_TEL_PORT_7_SCTP_ADDR": "10.0.0.3", "SEEDREAM_DB_NAME": "/worker/db",
            "SEEDREAM_DB_ENV_PASSWORD": "x", "SEEDREAM_X_SERVICE_PORT_NAME": "http",
        ]
        #expect(Self.faults(service) == [])
        // What only looks like one may be a mistake.
        for (name, value) in [
            ("SEEDREAM_CONSOLE_PORT", "9470"), ("SEEDREAM_CONSOLE_PORT_9470_TCP", "9470"), ("SEEDREAM_DB_NAME", "db"),
            ("SEEDREAM_AMPQ_URL", "tcp://10.0.0.1:1"),
        ] {
            #expect(Self.faults([name: value]).count == 1, "\(name)")
        }
    }

    @Test func `a value may end with the line break of the file that it was read from`() throws {
        let environment = [
            "SEEDREAM_AMQP_URL": "amqp://app:pw@broker:5672/\n", "SEEDREAM_QUEUE_NAME": "edits\r\n",
            "SEEDREAM_WORKER_CONCURRENCY": "7\n",
        ]
        let settings = try Self.read(flags: ["queue.type": "classic\n"], environment).settings
        #expect(settings.amqpURLs.map(\.virtualHost) == ["/"])
        #expect(settings.queueName == "edits" && settings.concurrency == 7 && settings.queueType == .classic)
    }

    @Test func `the proxy is the setting, or the environment's`() throws {
        func proxy(_ environment: [String: String]) throws -> String? {
            try Self.read(environment).settings.apiProxy.map { "\($0)" }
        }
        let https = ["HTTPS_PROXY": "http://p:3128", "HTTP_PROXY": "http://q:3128"]
        #expect(try proxy([:]) == nil)
        #expect(try proxy(https) == "http://p:3128")
        #expect(try proxy(https.merging(["https_proxy": "low:80"]) { $1 }) == "http://low:80")
        #expect(try proxy(https.merging(["SEEDREAM_API_BASE_URL": "http://api"]) { $1 }) == "http://q:3128")
        #expect(try proxy(https.merging(["SEEDREAM_API_PROXY": "none"]) { $1 }) == nil)
        #expect(try proxy(https.merging(["SEEDREAM_API_PROXY": "http://u:p@own"]) { $1 }) == "http://own:80")
        for exception in [
            "*", "api.sinancode.com", ".sinancode.com", "sinancode.com", "x, api.sinancode.com:443", "com",
        ] {
            #expect(try proxy(https.merging(["NO_PROXY": exception]) { $1 }) == nil, "\(exception)")
        }
        for other in ["", "api.sinancode.com:80", "sinan.com", "ode.com", "x.api.sinancode.com"] {
            #expect(try proxy(https.merging(["no_proxy": other]) { $1 }) == "http://p:3128", "\(other)")
        }
    }

    @Test(arguments: ["https://p:1", "socks5://p", "p:3128", "http://", "http://p:0", "http://p:x", "http://a:b/c@p:1"])
    func `a proxy that is none is a fault, without its password`(_ text: String) {
        let faults = Self.faults(["SEEDREAM_API_PROXY": text])
        #expect(faults.count == 1 && faults[0].hasPrefix("SEEDREAM_API_PROXY has a value that is not allowed: it "))
        #expect(!faults[0].contains("a:b"))
    }

    @Test func `a password in the API's URL is not told`() {
        let faults = Self.faults(["SEEDREAM_API_BASE_URL": "https://app:Zq8kLw2@api"])
        #expect(faults.count == 1 && !faults[0].contains("Zq8kLw2"))
    }

    @Test func `a flag beats the environment, which beats the file, which beats the default`() throws {
        let file = "queue:\n  name: from-file\n  type: classic\nworker: {concurrency: 7}\n"
        let environment = ["SEEDREAM_QUEUE_NAME": "from-environment", "SEEDREAM_QUEUE_TYPE": "quorum"]
        let result = try Self.read(flags: ["queue.name": "from-flag"], environment, file: file)
        #expect(result.settings.queueName == "from-flag")
        #expect(result.settings.queueType == .quorum)
        #expect(result.settings.concurrency == 7)
        #expect(result.settings.maxAttempts == 5)
    }

    @Test func `a file may be JSON, and a list a list`() throws {
        let settings =
            try Self.read(file: #"{"retry": {"delays": ["1s", "2s"], "maxAttempts": 3}, "http": {"listen": "off"}}"#)
            .settings
        #expect(settings.retryDelays == [.seconds(1), .seconds(2)])
        #expect(settings.maxAttempts == 3)
        #expect(settings.httpListen == nil)
    }

    @Test func `a secret can come from a file`() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try Data("amqp://u:p@h/\n".utf8).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        let settings = try Self.read(["SEEDREAM_AMQP_URL_FILE": url.path]).settings
        #expect(settings.amqpURLs.first?.credentials?.password == "p")
        try Data("  tok \n".utf8).write(to: url)
        #expect(try Self.read(["SEEDREAM_API_TOKEN_FILE": url.path]).settings.apiToken == .file(url.path))
    }

    @Test(arguments: [
        (["SEEDREAM_AMQP_URL": "http://h"], "SEEDREAM_AMQP_URL"),
        (["SEEDREAM_AMQP_HEARTBEAT": "0s"], "at least 1s"),
        (["SEEDREAM_QUEUE_NAME": ""], "SEEDREAM_QUEUE_NAME is \"\""),
        (["SEEDREAM_QUEUE_NAME": "amq.x"], "amq."),
        (["SEEDREAM_API_BASE_URL": "api.example"], "http or https"),
        (["SEEDREAM_API_BASE_URL": "https://u:p@h"], "without query"),
        (["SEEDREAM_API_BASE_URL": "https://h:0"], "port"),
        (["SEEDREAM_API_CA_FILE": "/no/such"], "cannot be read"),
        (["SEEDREAM_API_TOKEN_FILE": "/no/such"], "cannot be read"),
        (["SEEDREAM_AMQP_URL_FILE": "/no/such"], "cannot be read"),
        (["SEEDREAM_WORKER_CONCURRENCY": "0"], "from 1 to 65535"),
        (["SEEDREAM_WORKER_CONCURRENCY": "65536"], "from 1 to 65535"),
        (["SEEDREAM_WORKER_RATE_LIMIT": "18"], "18/10s"),
        (["SEEDREAM_WORKER_RATE_LIMIT": "1/1h"], "15s"),
        (["SEEDREAM_WORKER_MAX_MESSAGE_BYTES": "256KB"], "64KiB"),
        (["SEEDREAM_RETRY_DELAYS": "1s,,2s"], "separated by commas"),
        (["SEEDREAM_RETRY_DELAYS": "0s"], "from 1ms"),
        (["SEEDREAM_GATE_MIN_DELAY": "2m"], "longer than gate.maxDelay"),
        (["SEEDREAM_POLICY_NO_ANSWER": "parc"], "did you mean park?"),
        (["SEEDREAM_JOURNAL_STORE": "sqlite:"], "ledger, sqlite:PATH or memory"),
        (["SEEDREAM_HTTP_LISTEN": "9464"], "HOST:PORT"),
        (["SEEDREAM_LOG_LEVEL": "verbose"], "trace, debug"),
        (["SEEDREAM_AMQP_CERT_FILE": "/etc/hostname"], "belong together"),
        (["SEEDREAM_QUEU_NAME": "x"], "did you mean SEEDREAM_QUEUE_NAME?"),
        (["SEEDREAM_CONFIG": "/no/such"], "cannot be read"),
    ])
    func `a bad value is told with its setting and what is allowed`(_ environment: [String: String], _ text: String) {
        let faults = Self.faults(environment)
        #expect(faults.count == 1, "\(faults)")
        #expect(faults.first?.contains(text) == true, "\(faults)")
    }

    @Test(arguments: [
        ("queue: {nam: x}", "did you mean queue.name?"), ("quere: x", "is not a known setting"),
        ("queue: x", "must be a group"),
        ("[1]", "must be a group"), ("queue: {name: [", "is not valid YAML"),
        ("worker: {concurrency: many}", "from 1 to 65535"),
        // YAML's own rules: one value for a name, one document, no name for what was not named.
        ("queue: {name: a, name: b}", "at line 1, column 18"),
        ("queue: {name: a}\n---\nqueue: {name: b}", "at line 2, column 1"),
        ("queue: {name: *a}", "is not valid YAML"),
        (String(repeating: "[", count: 100), "is not valid YAML"),
        ("queue: {name: \u{7}}", "is not valid YAML"),
    ])
    func `a fault in a file is told with its place`(_ file: String, _ text: String) {
        let faults = Self.faults([:], file: file)
        #expect(faults.count == 1, "\(faults)")
        #expect(faults.first?.contains(text) == true, "\(faults)")
        #expect(faults.first?.contains(".yaml") == true, "\(faults)")
    }

    @Test func `a file may be empty, JSON, or YAML with all that YAML offers`() throws {
        #expect(try Self.read(file: "").settings.queueName == "seedream.edit")
        #expect(try Self.read(file: "# nothing yet\n").settings.queueName == "seedream.edit")
        #expect(try Self.read(file: #"{"queue": {"name": "a\u0062c"}}"#).settings.queueName == "abc")
        let text = """
            queue:
              name: &name "über"   # a comment
            api: {baseUrl: 'https://example.com'}
            retry:
              delays: [1s, 5s]
            policy: {noAnswer: !!str park}
            """
        let settings = try Self.read(file: text).settings
        #expect(settings.queueName == "über")
        #expect(settings.apiBaseURL == "https://example.com")
        #expect(settings.retryDelays == [.seconds(1), .seconds(5)])
        #expect(
            try Self.read(file: "queue: {name: &x d, type: classic}\nworker: {concurrency: 7}").settings.concurrency
                == 7
        )
    }

    @Test func `all faults are told at once`() {
        #expect(Self.faults(["SEEDREAM_QUEUE_TYPE": "x", "SEEDREAM_LOG_FORMAT": "y", "SEEDREAM_NOPE": "z"]).count == 3)
    }

    @Test func `two tokens of the same rank are one too many, a nearer one wins`() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try Data("filed".utf8).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        #expect(Self.faults(["SEEDREAM_API_TOKEN": "a", "SEEDREAM_API_TOKEN_FILE": url.path]).count == 1)
        let nearer = try Self.read(["SEEDREAM_API_TOKEN": "a"], file: "api: {tokenFile: \(url.path)}")
        #expect(nearer.settings.apiToken == .value("a"))
    }

    @Test func `variables and flags follow the key`() {
        let setting = SettingCatalogue.all.first { $0.key == "api.baseUrl" }
        #expect(setting?.variable == "SEEDREAM_API_BASE_URL")
        #expect(setting?.flag == "api-base-url")
    }
}
