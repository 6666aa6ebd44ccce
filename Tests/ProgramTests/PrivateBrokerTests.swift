import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// Brokers that are killed, starved and restarted under a running worker.
    @Suite(.machine, .timeLimit(.minutes(10)))
    struct PrivateBrokerTests {
        private static func publish(_ range: Range<Int>, _ service: ServiceFixture) async throws {
            try await service.publish(range.map { _ in ServiceFixture.job() }) { index, properties in
                properties.messageID = ByteString("job-\(range.lowerBound + index)")
            }
        }

        /// Starts a worker whose health is watched, and waits until it is ready.
        private static func startWorker(
            _ service: ServiceFixture,
            _ more: [String: String] = [:]
        ) async throws -> (worker: Program, url: String) {
            let worker = try service.launchWorker(
                more.merging(["SEEDREAM_HTTP_LISTEN": "127.0.0.1:0"]) { given, _ in given }
            )
            let url = try await HTTPGet.healthURL(of: worker)
            do {
                try await eventually("ready", within: .seconds(60)) { try await HTTPGet(url + "/readyz").status == 200 }
            } catch {
                throw DeadlinePassed(description: "\(error); the worker said: \(worker.stderr)")
            }
            return (worker, url)
        }

        @Test(.cluster) func `the node that a worker is on is killed, and work goes on`() async throws {
            try await PrivateBroker.with(nodes: 3) { cluster in
                // The test's own eyes are on the last node.
                let broker = try TestBroker(at: cluster.nodes[2].urlText)
                try await ServiceFixture.with(sandbox: ["--latency", "100ms"], on: broker) { service in
                    let (worker, _) = try await Self.startWorker(
                        service,
                        [
                            "SEEDREAM_AMQP_URL": cluster.nodes.map(\.urlText).joined(separator: ","),
                            // Slow enough that there is work left after the kill, however slow the publishing is.
                            "SEEDREAM_WORKER_CONCURRENCY": "25",
                        ]
                    )
                    try await Self.publish(0..<4000, service)
                    try await eventually("work has begun") { try await service.count("accepted") > 500 }
                    try await cluster.kill(cluster.nodes[0])
                    let killed = try await service.count("requests")
                    do {
                        try await eventually("work goes on", within: .seconds(120)) {
                            try await service.count("requests") > killed + 200
                        }
                    } catch {
                        throw DeadlinePassed(description: "\(error); the worker said: \(worker.stderr)")
                    }
                    let replies = try await broker.takeReplies(ofJobs: 4000, from: "jobs.results")
                    // No more than were in flight.
                    #expect(try await service.expectSubmittedOrInDoubt(replies, jobs: 4000) <= 25)
                    worker.signal(SIGTERM)
                    #expect(try await worker.outcome().status == 0)
                    try await service.waitFor(0, in: "jobs")
                }
            }
        }

        @Test(.cluster) func `a node is killed with the worker on it, and the fleet goes on`() async throws {
            try await PrivateBroker.with(nodes: 3) { cluster in
                let broker = try TestBroker(at: cluster.nodes[2].urlText)
                try await ServiceFixture.with(sandbox: ["--latency", "200ms"], on: broker) { service in
                    var workers: [Program] = []
                    for first in 0..<3 {
                        // Each prefers another node, and knows all.
                        let urls = (0..<3).map { cluster.nodes[(first + $0) % 3].urlText }.joined(separator: ",")
                        let settings = [
                            "SEEDREAM_AMQP_URL": urls, "SEEDREAM_WORKER_CONCURRENCY": "10",
                            "SEEDREAM_API_TIMEOUT": "3s",
                        ]
                        workers.append(try await Self.startWorker(service, settings).worker)
                    }
                    try await Self.publish(0..<3000, service)
                    try await eventually("work has begun") { try await service.count("accepted") > 300 }
                    workers[0].signal(SIGKILL)
                    try await cluster.kill(cluster.nodes[0])
                    let killed = try await service.count("requests")
                    let start = ContinuousClock.now
                    try await eventually("work goes on", within: .seconds(60)) {
                        try await service.count("requests") > killed + 200
                    }
                    let standstill = ContinuousClock.now - start
                    let replies = try await broker.takeReplies(ofJobs: 3000, from: "jobs.results")
                    // What the killed one had under way ends when it has been silent for long enough.
                    #expect(try await service.expectSubmittedOrInDoubt(replies, jobs: 3000) <= 10, "\(standstill)")
                    // Those that live, on whatever node, are told by the stream.
                    let fleet = try await service.run(["fleet", "status", "--format", "json"])
                    let replicas = try JSONValue(parsing: fleet.stdout.utf8)["replicas"]?.elements.count
                    #expect(replicas == 2, "\(fleet.stdout)")
                }
            }
        }

        @Test(.cluster) func `a node that freezes costs nothing but time, and nothing when it thaws`() async throws {
            // The others take it for gone after ten seconds instead of 75.
            try await PrivateBroker.with(nodes: 3, advanced: "[{kernel, [{net_ticktime, 8}]}].") { cluster in
                let broker = try TestBroker(at: cluster.nodes[2].urlText)
                try await ServiceFixture.with(sandbox: ["--latency", "200ms"], on: broker) { service in
                    for first in 0..<3 {
                        let urls = (0..<3).map { cluster.nodes[(first + $0) % 3].urlText }.joined(separator: ",")
                        _ = try await Self.startWorker(
                            service,
                            ["SEEDREAM_AMQP_URL": urls, "SEEDREAM_WORKER_CONCURRENCY": "5"]
                        )
                    }
                    try await Self.publish(0..<1500, service)
                    try await eventually("work has begun") { try await service.count("accepted") > 100 }
                    // The stream's leader is there: the first worker has made it.
                    await cluster.freeze(cluster.nodes[0], true)
                    let frozen = try await service.count("requests")
                    try await eventually("work goes on", within: .seconds(120)) {
                        try await service.count("requests") > frozen + 100
                    }
                    await cluster.freeze(cluster.nodes[0], false)
                    let replies = try await broker.takeReplies(ofJobs: 1500, from: "jobs.results")
                    // All live, and each can say what has become of its jobs.
                    #expect(try await service.expectSubmittedOrInDoubt(replies, jobs: 1500) == 0)
                    #expect(try await service.count("accepted") == 1500)
                }
            }
        }

        @Test func `a memory alarm stops publishing and nothing else, and passes`() async throws {
            try await PrivateBroker.with { broker in
                let node = broker.nodes[0]
                try await ServiceFixture.with(sandbox: ["--latency", "300ms"], on: TestBroker(at: node.urlText)) {
                    service in
                    let (worker, url) = try await Self.startWorker(service)
                    try await Self.publish(0..<1000, service)
                    try await eventually("work has begun") { try await service.count("accepted") > 100 }
                    try await broker.control(node, "set_vm_memory_high_watermark", "0.00001")
                    try await eventually("not ready") {
                        try await HTTPGet(url + "/readyz").missing.contains("not blocked")
                    }
                    // RabbitMQ says so to whoever publishes: what has an end waits for the ledger, and then for the publisher.
                    #expect(try await Metrics(url).sum("seedream_amqp_blocked") > 0)
                    try await worker.waitForStderr("the broker blocks publishing")
                    // What is in flight is submitted, and waits for its reply to be taken.
                    try await eventually("all places are submitted") {
                        let statistics = try await service.statistics()
                        return statistics["in_flight"]?.exactInteger == 0
                            && statistics["accepted"]?.exactInteger == statistics["requests"]?.exactInteger
                    }
                    #expect(try await HTTPGet(url + "/livez").status == 200)
                    try await broker.control(node, "set_vm_memory_high_watermark", "0.5")
                    let replies = try await service.broker.takeReplies(ofJobs: 1000, from: "jobs.results")
                    #expect(replies.count == 1000)
                    #expect(try await service.count("accepted") == 1000)
                    #expect(try await service.count("duplicates") == 0)
                    try await eventually("ready again") { try await HTTPGet(url + "/readyz").status == 200 }
                    worker.signal(SIGTERM)
                    #expect(try await worker.outcome().status == 0)
                    #expect(try await service.ready("jobs") == 0)
                }
            }
        }

        @Test func `a broker without streams is told with what to set instead`() async throws {
            let flags = [
                "quorum_queue", "implicit_default_bindings", "virtual_host_metadata", "maintenance_mode_status",
                "user_limits",
            ]
            let forced = flags.joined(separator: ",")
            let advanced = "[{rabbit, [{forced_feature_flags_on_init, [\(forced)]}]}]."
            try await PrivateBroker.with(advanced: advanced) { broker in
                try await ServiceFixture.with(on: TestBroker(at: broker.nodes[0].urlText)) { service in
                    let doctor = try await service.run(["doctor"])
                    #expect(doctor.status == 1, "\(doctor.stdout)")
                    #expect(doctor.stdout.contains("fault    journal  the broker has no streams"), "\(doctor.stdout)")
                    #expect(doctor.stdout.contains("set journal.store to sqlite:PATH or memory"), "\(doctor.stdout)")
                    let worker = try service.launchWorker()
                    try await worker.waitForStderr("set journal.store to sqlite:PATH or memory")
                    let other = try await service.run(["doctor"], ["SEEDREAM_JOURNAL_STORE": "memory"])
                    #expect(other.status == 0, "\(other.stdout)")
                }
            }
        }

        @Test func `a command that an alarm blocks says so, and ends when it is told to`() async throws {
            try await PrivateBroker.with { broker in
                let node = broker.nodes[0]
                try await ServiceFixture.with(on: TestBroker(at: node.urlText)) { service in
                    let worker = try await service.startWorker()
                    #expect(try await service.run(["fleet", "pause"]).status == 0)
                    worker.signal(SIGTERM)
                    #expect(try await worker.outcome().status == 0)
                    try await service.publish(Array(repeating: ServiceFixture.job(), count: 3), to: "jobs.dlq")
                    try await broker.control(node, "set_vm_memory_high_watermark", "0.00001")
                    let job = ServiceFixture.job()
                    for command in [
                        ["submit", "-"], ["fleet", "resume"], ["dead-letters", "replay"], ["cancel", "a"],
                    ] {
                        let outcome = try await Program.run(
                            command + ["--timeout", "3s"],
                            environment: service.environment(),
                            stdin: job
                        )
                        #expect(outcome.status == 69, "\(command): \(outcome)")
                        #expect(
                            outcome.stderr.contains("the broker blocks publishing: low on memory"),
                            "\(command): \(outcome)"
                        )
                        let program = try Program(command, environment: service.environment())
                        try program.feed(job)
                        try await program.waitForStderr("the broker blocks publishing: low on memory")
                        program.signal(SIGINT)
                        let start = ContinuousClock.now
                        #expect(try await program.outcome().status == 130, "\(command): \(program.stderr)")
                        // Two are promised, on a machine that does nothing else.
                        #expect(start.duration(to: .now) < .seconds(10), "\(command)")
                    }
                    let doctor = try await service.run(["doctor"])
                    #expect(
                        doctor.status == 1
                            && doctor.stdout.contains("fault    broker   the broker blocks publishing: low on memory"),
                        "\(doctor)"
                    )
                    try await broker.control(node, "set_vm_memory_high_watermark", "0.5")
                    try await eventually("the letters are there") { try await service.ready("jobs.dlq") == 3 }
                }
            }
        }

        @Test func `a requester that goes while its reply waits has it among the results`() async throws {
            try await PrivateBroker.with { broker in
                let node = broker.nodes[0]
                try await ServiceFixture.with(sandbox: ["--latency", "20s"], on: TestBroker(at: node.urlText)) {
                    service in
                    let (worker, _) = try await Self.startWorker(service)
                    let requester = try await service.broker.connect("requester")
                    _ = try await requester.consume(from: "amq.rabbitmq.reply-to", prefetch: 0, acknowledges: false)
                    var properties = MessageProperties()
                    properties.messageID = "asked"
                    properties.replyTo = "amq.rabbitmq.reply-to"
                    let job = OutboundMessage(
                        routingKey: "jobs",
                        properties: properties,
                        body: Array(ServiceFixture.job().utf8)
                    )
                    #expect(try await requester.publish(job) == .confirmed)
                    try await eventually("the submission") { try await service.count("in_flight") == 1 }
                    try await broker.control(node, "set_vm_memory_high_watermark", "0.00001")
                    // The requester was there when it was asked for; the reply now waits for the broker.
                    try await worker.waitForStderr("the broker blocks publishing")
                    await requester.close()
                    try await broker.control(node, "set_vm_memory_high_watermark", "0.5")
                    let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                    #expect(reply.json["status"]?.text == "submitted")
                    #expect(reply.header("x-undeliverable-reply-to")?.hasPrefix("amq.rabbitmq.reply-to.") == true)
                    #expect(try await service.count("accepted") == 1)
                }
            }
        }

        @Test func `a requester that stays has its reply, and nobody else`() async throws {
            try await PrivateBroker.with { broker in
                try await ServiceFixture.with(on: TestBroker(at: broker.nodes[0].urlText)) { service in
                    _ = try await Self.startWorker(service)
                    let requester = try await service.broker.connect("requester")
                    let replies = try await requester.consume(
                        from: "amq.rabbitmq.reply-to",
                        prefetch: 0,
                        acknowledges: false
                    )
                    var deliveries = replies.deliveries.makeAsyncIterator()
                    for number in 0..<50 {
                        var properties = MessageProperties()
                        properties.messageID = ByteString("asked-\(number)")
                        properties.replyTo = "amq.rabbitmq.reply-to"
                        let body = Array(ServiceFixture.job().utf8)
                        _ = try await requester.publish(
                            OutboundMessage(routingKey: "jobs", properties: properties, body: body)
                        )
                        let reply = try #require(await deliveries.next())
                        #expect(reply.json["job_id"]?.text == "asked-\(number)")
                    }
                    await requester.close()
                    #expect(try await service.ready("jobs.results") == 0)
                }
            }
        }

        @Test func `jobs of 100 MiB cost no memory, and are dead-lettered byte for byte`() async throws {
            try await PrivateBroker.with(configuration: "max_message_size = 134217728") { broker in
                try await ServiceFixture.with(on: TestBroker(at: broker.nodes[0].urlText)) { service in
                    let (worker, _) = try await Self.startWorker(service)
                    let large = String(repeating: "0123456789abcdef", count: 100 << 16)
                    for number in 0..<3 {
                        try await service.publish([large]) { $1.messageID = ByteString("large-\(number)") }
                    }
                    let replies = try await service.broker.take(3, from: "jobs.results")
                    #expect(replies.allSatisfy { $0.json["error"]?["code"]?.text == "message_too_large" })
                    #expect(replies.allSatisfy { $0.json["charged"]?.text == "no" })
                    try await service.waitFor(3, in: "jobs.dlq")
                    let memory = try Self.peakMemory(of: worker)
                    #expect(memory < 80 << 20, "\(memory >> 20) MiB")
                    let letter = try #require(try await service.broker.take(1, from: "jobs.dlq").first)
                    let isWhole = letter.body == Array(large.utf8)
                    #expect(isWhole)
                    let list = try await service.run(["dead-letters", "list"])
                    #expect(list.stdout.contains("message_too_large"), "\(list.stdout)")
                }
            }
        }

        /// The most memory that a program has had, in bytes.
        private static func peakMemory(of program: Program) throws -> Int {
            let status = try String(contentsOfFile: "/proc/\(program.pid)/status", encoding: .utf8)
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
            return try #require(Int(line.filter(\.isNumber))) << 10
        }

        @Test func `a broker that is killed again and again costs no job and no money`() async throws {
            let kills = TestSize.choose(quick: 5, usual: 5, full: 20)
            try await PrivateBroker.with { broker in
                let node = broker.nodes[0]
                try await ServiceFixture.with(sandbox: ["--latency", "200ms"], on: TestBroker(at: node.urlText)) {
                    service in
                    let (worker, url) = try await Self.startWorker(service, ["SEEDREAM_WORKER_CONCURRENCY": "20"])
                    for round in 0..<kills {
                        try await Self.publish(round * 200..<(round + 1) * 200, service)
                        let accepted = try await service.count("accepted")
                        // More than a second's work, after which a connection counts as good and the backoff starts anew.
                        try await eventually("work goes on", within: .seconds(60)) {
                            try await service.count("accepted") > accepted + 150
                        }
                        try await broker.kill(node)
                        try await broker.start(node)
                    }
                    let replies = try await service.broker.takeReplies(ofJobs: 200 * kills, from: "jobs.results")
                    // No more than were in flight at the kills.
                    #expect(try await service.expectSubmittedOrInDoubt(replies, jobs: 200 * kills) <= 20 * kills)
                    // One line a change for each of the two connections: lost, perhaps by another name, and found.
                    let lines = worker.stderr.split(separator: "\n").filter { $0.contains("no connection") }
                    #expect((kills...8 * kills).contains(lines.count), "\(lines.count) lines")
                    #expect(try await Metrics(url).sum("seedream_amqp_reconnects_total") >= 3 * Double(kills) / 2)
                    worker.signal(SIGTERM)
                    #expect(try await worker.outcome().status == 0)
                }
            }
        }

        @Test func `a job that takes longer than the broker allows is told by name, and paid once`() async throws {
            let advanced = "[{rabbit, [{consumer_timeout, 3000}, {channel_tick_interval, 1000}]}]."
            try await PrivateBroker.with(advanced: advanced) { broker in
                let test = try TestBroker(at: broker.nodes[0].urlText)
                try await ServiceFixture.with(sandbox: ["--latency", "10s"], on: test) { service in
                    let (worker, _) = try await Self.startWorker(service)
                    try await Self.publish(0..<3, service)
                    try await worker.waitForStderr("consumer_timeout")
                    #expect(worker.stderr.contains("raise consumer_timeout"))
                    _ = try await test.takeReplies(ofJobs: 3, from: "jobs.results")
                    #expect(try await service.count("requests") == 3)
                }
            }
        }

        @Test func `a client certificate is the login where the URL names no user`() async throws {
            let root = try await TestCertificate.authority()
            let server = try await root.issue(name: "localhost", for: "DNS:localhost,IP:127.0.0.1")
            let client = try await root.issue(name: "worker-7", for: "DNS:worker-7")
            let stranger = try await TestCertificate.authority().issue(name: "worker-7", for: "DNS:worker-7")
            let port = try PrivateBroker.freePort()
            let configuration = """
                listeners.ssl.1 = 127.0.0.1:\(port)
                ssl_options.cacertfile = \(root.certificatePath)
                ssl_options.certfile = \(server.certificatePath)
                ssl_options.keyfile = \(server.keyPath)
                ssl_options.verify = verify_peer
                ssl_options.fail_if_no_peer_cert = true
                ssl_cert_login_from = common_name
                auth_mechanisms.1 = EXTERNAL
                auth_mechanisms.2 = PLAIN
                """
            try await PrivateBroker.with(configuration: configuration, plugins: ["rabbitmq_auth_mechanism_ssl"]) {
                broker in
                let node = broker.nodes[0]
                try await broker.control(node, "add_user", "worker-7", "unused")
                try await broker.control(node, "set_permissions", "worker-7", ".*", ".*", ".*")
                func environment(_ certificate: TestCertificate) -> [String: String] {
                    [
                        "SEEDREAM_AMQP_URL": "amqps://localhost:\(port)/",
                        "SEEDREAM_AMQP_CA_FILE": root.certificatePath,
                        "SEEDREAM_AMQP_CERT_FILE": certificate.certificatePath,
                        "SEEDREAM_AMQP_KEY_FILE": certificate.keyPath,
                    ]
                }
                try await ServiceFixture.with(on: TestBroker(at: node.urlText)) { service in
                    _ = try await Self.startWorker(service, environment(client))
                    #expect(try await broker.control(node, "list_connections", "user").contains("worker-7"))
                    try await Self.publish(0..<5, service)
                    try await service.waitFor(5, in: "jobs.results")
                    let refused = try await service.run(["run", "--fail-fast"], environment(stranger))
                    #expect(refused.status == 69)
                    #expect(refused.stderr.contains("(tls)"), "\(refused.stderr)")
                    #expect(refused.stderr.contains("check the client certificate"), "\(refused.stderr)")
                }
            }
        }
    }
}
