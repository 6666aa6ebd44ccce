import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

/// The real program on the real broker: a sandbox or a scripted API, and workers.
final class ServiceFixture {
    static let token = "tok-\(UUID().uuidString)"

    let broker: TestBroker
    let apiURL: String
    private let sandbox: Program?
    private var workers: [Program] = []

    /// Runs a test with a virtual host and a sandbox of its own; whatever it starts is stopped afterwards.
    static func with(
        sandbox arguments: [String] = ["--latency", "0ms"],
        apiURL: String? = nil,
        _ body: (ServiceFixture) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker in
            try await with(sandbox: arguments, apiURL: apiURL, on: broker, body)
        }
    }

    /// As above, on a broker that the test has.
    static func with(
        sandbox arguments: [String] = ["--latency", "0ms"],
        apiURL: String? = nil,
        on broker: TestBroker,
        _ body: (ServiceFixture) async throws -> Void
    ) async throws {
        var sandbox: Program?
        var url = apiURL ?? ""
        if apiURL == nil {
            let program = try Program(["sandbox", "--listen", "127.0.0.1:0", "--token", token] + arguments)
            try await program.waitForStderr("/stats")
            url = program.stderr.split(separator: " ")[1].trimmingCharacters(in: CharacterSet(charactersIn: ","))
            sandbox = program
        }
        let fixture = ServiceFixture(broker: broker, apiURL: url, sandbox: sandbox)
        do {
            try await body(fixture)
            await fixture.expectNoSecrets()
        } catch {
            fixture.kill()
            throw error
        }
        fixture.kill()
    }

    /// Looks through all that the workers have said, and all messages that are left, for what must never be there.
    private func expectNoSecrets() async {
        let secrets = [Self.token, "make it blue", "guest:guest"]
        for worker in workers {
            let said = worker.stdout + worker.stderr
            #expect(!secrets.contains { said.contains($0) }, "a worker said a secret: \(said)")
        }
        for queue in ["jobs.results", "jobs.dlq", "jobs.unknown"] {
            // A queue or a broker that the test has taken away has nothing to look at.
            guard let count = try? await ready(queue),
                let messages = try? await broker.take(Int(min(count, 500)), from: queue)
            else { continue }
            for message in messages {
                var said = (message.properties.headers ?? [:]).entries.map { $0.value.text ?? "" }
                    .joined(separator: "\n")
                // A dead letter's body is the job's own, and a reply's is ours.
                if queue == "jobs.results" { said += String(decoding: message.body, as: UTF8.self) }
                #expect(!secrets.contains { said.contains($0) }, "a message in \(queue) says a secret: \(said)")
            }
        }
    }

    private init(broker: TestBroker, apiURL: String, sandbox: Program?) {
        self.broker = broker
        self.apiURL = apiURL
        self.sandbox = sandbox
    }

    private func kill() {
        for program in workers + [sandbox].compactMap({ $0 }) { program.signal(SIGKILL) }
    }

    /// The variables of every command.
    func environment(_ more: [String: String] = [:]) -> [String: String] {
        [
            "SEEDREAM_AMQP_URL": broker.urlText, "SEEDREAM_QUEUE_NAME": "jobs", "SEEDREAM_API_BASE_URL": apiURL,
            "SEEDREAM_API_TOKEN": Self.token, "SEEDREAM_HTTP_LISTEN": "off",
        ]
        .merging(more) { _, new in new }
    }

    /// Starts a worker and waits until it consumes.
    func startWorker(_ more: [String: String] = [:], consumers: Int = 1) async throws -> Program {
        let worker = try launchWorker(more)
        do {
            try await broker.withConnection { connection in
                try await eventually("a consumer") {
                    await (try? connection.inspect(queue: "jobs").consumerCount) ?? 0 >= UInt32(consumers)
                }
            }
        } catch {
            throw DeadlinePassed(description: "\(error); the worker said: \(worker.stderr)")
        }
        return worker
    }

    /// Starts a worker.
    func launchWorker(_ more: [String: String] = [:]) throws -> Program {
        var variables = environment(more)
        if more["SEEDREAM_API_TOKEN_FILE"] != nil { variables["SEEDREAM_API_TOKEN"] = nil }
        let worker = try Program(["run"], environment: variables)
        workers.append(worker)
        return worker
    }

    /// Runs another command to its end.
    func run(_ arguments: [String], stdin: String = "", _ more: [String: String] = [:]) async throws -> Program.Outcome
    {
        let outcome = try await Program.run(arguments, environment: environment(more), stdin: stdin)
        #expect(!(outcome.stdout + outcome.stderr).contains(Self.token), "\(arguments) printed the token")
        return outcome
    }

    /// The sandbox's statistics.
    func statistics() async throws -> JSONValue {
        let outcome = try await Program.run(["-s", "\(apiURL)/stats"], executable: "/usr/bin/curl")
        return try JSONValue(parsing: outcome.stdout.utf8)
    }

    /// One number of the sandbox's statistics.
    func count(_ name: String) async throws -> Int64 {
        try await statistics()[name]?.exactInteger ?? -1
    }

    /// Publishes jobs straight to the queue.
    func publish(
        _ bodies: [String],
        to queue: String = "jobs",
        _ change: @Sendable (Int, inout MessageProperties) -> Void = { _, _ in }
    ) async throws {
        try await broker.withConnection { connection in
            let publisher = try await connection.makePublisher()
            var publishes: [PendingConfirm] = []
            for (index, body) in bodies.enumerated() {
                var properties = MessageProperties()
                properties.messageID = ByteString("job-\(index)")
                properties.deliveryMode = 2
                change(index, &properties)
                publishes.append(
                    publisher.start(
                        OutboundMessage(routingKey: ByteString(queue), properties: properties, body: Array(body.utf8))
                    )
                )
            }
            for publish in publishes {
                let result = try await publish.result
                guard result == .confirmed else { throw DeadlinePassed(description: "a job was not taken: \(result)") }
            }
        }
    }

    /// Messages ready in a queue.
    func ready(_ queue: String) async throws -> UInt32 {
        try await broker.withConnection { try await $0.inspect(queue: ByteString(queue)).messageCount }
    }

    /// Waits until a queue has so many messages.
    func waitFor(_ count: UInt32, in queue: String, within limit: Duration = .seconds(60)) async throws {
        try await broker.withConnection { connection in
            try await eventually("\(count) in \(queue)", within: limit) {
                await (try? connection.inspect(queue: ByteString(queue)).messageCount) == count
            }
        }
    }

    /// Expects one end of each job: submitted once, or in doubt, because the broker delivered it again and the worker's
    /// journal, which not all replicas share, does not know it; and nothing paid twice.
    ///
    /// Returns how many are in doubt.
    @discardableResult
    func expectSubmittedOrInDoubt(_ replies: [Delivery], jobs: Int, _ comment: Comment? = nil) async throws -> Int {
        let byJob = Dictionary(grouping: replies) { $0.json["job_id"]?.text ?? "" }
        #expect(byJob.count == jobs, comment)
        let ends = byJob.mapValues { replies in
            Set(replies.map { $0.json["task_id"]?.text ?? $0.json["error"]?["code"]?.text ?? "" })
        }
        #expect(ends.values.allSatisfy { $0.count == 1 }, comment)
        let inDoubt = ends.values.count { $0 == ["outcome_unknown"] }
        #expect(
            replies.allSatisfy { $0.json["status"]?.text == "submitted" || $0.json["charged"]?.text == "maybe" },
            comment
        )
        #expect(try await count("accepted") >= Int64(jobs - inDoubt), comment)
        #expect(try await count("accepted") <= Int64(jobs), comment)
        #expect(try await count("duplicates") == 0, comment)
        // A letter may stand twice if the connection broke behind it, as a reply may.
        #expect(try await ready("jobs.unknown") >= UInt32(inDoubt), comment)
        return inDoubt
    }

    static func job(_ prompt: String = "make it blue", _ more: String = "") -> String {
        #"{"image_urls":["https://example.com/a.png"],"prompt":"\#(prompt)"\#(more)}"#
    }
}

extension Delivery {
    /// The body as JSON.
    var json: JSONValue { (try? JSONValue(parsing: body)) ?? .null }

    /// A header's text.
    func header(_ name: ByteString) -> String? { properties.headers?[name]?.text }
}
