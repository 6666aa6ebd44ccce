import Foundation
import Glibc
import JSON
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// The process `run`: its environment, its log, its signals, and what a broker refuses it.
    @Suite(.timeLimit(.minutes(10)))
    struct RunTests {
        @Test func `a service's variables of Kubernetes stop nothing`() async throws {
            let service = [
                "SEEDREAM_CONSOLE_SERVICE_HOST": "10.0.0.1", "SEEDREAM_CONSOLE_PORT": "tcp://10.0.0.1:9470",
                "SEEDREAM_CONSOLE_PORT_9470_TCP": "tcp://10.0.0.1:9470",
                "SEEDREAM_CONSOLE_PORT_9470_TCP_ADDR": "10.0.0.1",
                "SEEDREAM_CONSOLE_SERVICE_PORT_HTTP": "9470",
            ]
            for command in ["settings", "validate"] {
                let arguments = command == "validate" ? ["validate", "-"] : [command]
                let outcome = try await Program.run(arguments, environment: service, stdin: ServiceFixture.job())
                #expect(outcome.status == 0, "\(outcome.stderr)")
            }
            try await ServiceFixture.with { fixture in
                _ = try await fixture.startWorker(service)
                try await fixture.publish([ServiceFixture.job()])
                try await fixture.waitFor(1, in: "jobs.results")
            }
        }

        @Test func `a log that nobody reads stops no job`() async throws {
            try await ServiceFixture.with { service in
                // The shell has the other end of the worker's stderr, and never reads.
                let script = #"""
                    fifo=$(mktemp -u) && mkfifo "$fifo" && exec 3<>"$fifo" && rm "$fifo"
                    "$0" run 2>&3 &
                    echo $!
                    wait $!
                    """#
                let address = "127.0.0.1:\(try PrivateBroker.freePort())"
                let settings = service.environment([
                    "SEEDREAM_LOG_LEVEL": "debug", "SEEDREAM_HTTP_LISTEN": address,
                ])
                let shell = try Program(["-c", script, Program.path], environment: settings, executable: "/bin/bash")
                let url = "http://\(address)"
                try await eventually("ready", within: .seconds(60)) {
                    try await HTTPGet(url + "/readyz").status == 200
                }
                // At debug two lines a job: more than the pipe and what may wait hold together.
                try await service.publish(Array(repeating: ServiceFixture.job(), count: 8000))
                try await service.waitFor(8000, in: "jobs.results", within: .seconds(120))
                let metrics = try await HTTPGet(url + "/metrics").text
                let dropped = metrics.split(separator: "\n").first { $0.hasPrefix("seedream_log_lines_dropped_total ") }
                #expect(dropped.map { $0 != "seedream_log_lines_dropped_total 0" } == true, "\(dropped ?? "")")
                // And it ends in good order.
                kill(try #require(Int32(shell.stdout.split(separator: "\n").first ?? "")), SIGTERM)
                #expect(try await shell.outcome(within: .seconds(30)).status == 0)
            }
        }

        @Test func `signals within a second are one, and drain`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "1500ms"]) { service in
                let worker = try await service.startWorker()
                try await service.publish([ServiceFixture.job()])
                try await eventually("it is under way") { try await service.count("requests") == 1 }
                for number in [SIGTERM, SIGTERM, SIGINT] { worker.signal(number) }
                #expect(try await worker.outcome().status == 0)
                #expect(try await service.ready("jobs.results") == 1)
            }
        }

        @Test func `a signal during a broker's handshake that hangs ends at once`() async throws {
            // Accepts, and says nothing.
            let silent = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .bind(host: "127.0.0.1", port: 0).get()
            let url = "amqp://guest:guest@127.0.0.1:\(silent.localAddress?.port ?? 0)/"
            let worker = try Program(
                ["run"],
                environment: [
                    "SEEDREAM_AMQP_URL": url, "SEEDREAM_API_TOKEN": ServiceFixture.token, "SEEDREAM_HTTP_LISTEN": "off",
                ]
            )
            try await worker.waitForStderr("starting")
            worker.signal(SIGTERM)
            #expect(try await worker.outcome().status == 0)
            // The handshake itself is given up after nine seconds, and told.
            #expect(!worker.stderr.contains("no connection to the broker"), "\(worker.stderr)")
            try await silent.close()
        }

        private static func limitConnections(of broker: TestBroker, to count: Int) async throws {
            try await TestBroker.management(
                "PUT",
                "/api/vhost-limits/\(broker.virtualHost)/max-connections",
                body: #"{"value":\#(count)}"#
            )
        }

        @Test func `jobs that a connection is missing for go back, and the worker says so`() async throws {
            try await ServiceFixture.with { service in
                let worker = try service.launchWorker([
                    "SEEDREAM_HTTP_LISTEN": "127.0.0.1:0", "SEEDREAM_WORKER_CONCURRENCY": "3",
                    "SEEDREAM_RETRY_DELAYS": "300ms,1s",
                ])
                let url = try await HTTPGet.healthURL(of: worker)
                try await eventually("ready") { try await HTTPGet(url + "/readyz").status == 200 }
                try await service.broker.withConnection { connection in
                    // The requester has a connection too.
                    try await Self.limitConnections(of: service.broker, to: 4)
                    let publisher = try await connection.makePublisher()
                    let replies = try await connection.consume(
                        from: "amq.rabbitmq.reply-to",
                        prefetch: 0,
                        acknowledges: false
                    )
                    for index in 0..<6 {
                        var properties = MessageProperties()
                        properties.messageID = ByteString("direct-\(index)")
                        properties.replyTo = "amq.rabbitmq.reply-to"
                        let job = OutboundMessage(
                            routingKey: "jobs",
                            properties: properties,
                            body: Array(ServiceFixture.job().utf8)
                        )
                        #expect(try await publisher.publish(job) == .confirmed)
                    }
                    try await worker.waitForStderr("no connection to ask for direct replies")
                    #expect(worker.stderr.contains("raise the limit of connections"))
                    let ready = try await HTTPGet(url + "/readyz")
                    #expect(ready.status == 503 && ready.missing.contains("inspector connection"))
                    // Other jobs go on meanwhile.
                    var other = MessageProperties()
                    other.messageID = "other"
                    let body = Array(ServiceFixture.job().utf8)
                    _ = try await publisher.publish(
                        OutboundMessage(routingKey: "jobs", properties: other, body: body)
                    )
                    try await eventually("its reply") {
                        try await connection.inspect(queue: "jobs.results").messageCount == 1
                    }
                    try await Self.limitConnections(of: service.broker, to: 100)
                    try await within(.seconds(60), "all replies") {
                        var count = 0
                        for await _ in replies.deliveries {
                            count += 1
                            if count == 6 { break }
                        }
                    }
                    try await eventually("ready again") { try await HTTPGet(url + "/readyz").status == 200 }
                }
                worker.signal(SIGTERM)
                #expect(try await worker.outcome().status == 0)
            }
        }
    }
}
