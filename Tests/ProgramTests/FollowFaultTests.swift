import Foundation
import JSON
import NIOConcurrencyHelpers
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// Tasks that wait while workers are killed, the broker and the API are away, or nobody runs.
    @Suite(.timeLimit(.minutes(20)))
    struct FollowFaultTests {
        private static let settings = [
            "SEEDREAM_FOLLOW_DELAYS": "300ms,1s", "SEEDREAM_FOLLOW_RATE_LIMIT": "1000/1s",
            "SEEDREAM_RETRY_DELAYS": "200ms,1s", "SEEDREAM_API_TIMEOUT": "3s", "SEEDREAM_API_CONNECT_TIMEOUT": "1s",
        ]

        /// How long brokers and APIs stay away.
        private static let outage = Duration.seconds(TestSize.choose(quick: 4, usual: 4, full: 90))

        private static func publish(_ count: Int, _ service: ServiceFixture, _ name: String = "asked") async throws {
            try await service.publish(Array(repeating: ServiceFixture.job(), count: count)) { index, properties in
                properties.messageID = ByteString("\(name)-\(index)")
                if name == "asked" { properties.headers = ["x-follow": .boolean(true)] }
            }
        }

        private static func waitOut(_ outage: Duration) async throws {
            let end = ContinuousClock.now + outage
            try await eventually("the end of the outage", within: outage + .seconds(5)) { .now >= end }
        }

        /// Takes replies until so many jobs have ended: by job, how each ended, which is once.
        private static func ends(of count: Int, _ service: ServiceFixture) async throws -> [String: Set<String>] {
            try await service.broker.withConnection { connection in
                let consumer = try await connection.consume(from: "jobs.results", prefetch: 0)
                return try await within(.seconds(240), "an end of each of \(count) jobs") {
                    var ends: [String: Set<String>] = [:]
                    for await delivery in consumer.deliveries {
                        _ = delivery.acknowledge()
                        let json = delivery.json
                        guard json["status"]?.text != "submitted", let id = json["job_id"]?.text else { continue }
                        let url = json["images"]?.elements.first?["url"]?.text
                        ends[id, default: []].insert(url ?? json["error"]?["code"]?.text ?? "?")
                        if ends.count == count { break }
                    }
                    return ends
                }
            }
        }

        @Test func `2000 followed jobs with faults on every way, and ten kills, have one end each`() async throws {
            let faults = ["500=3", "429=0.5", "422=3", "garbage=1", "task-failed=4", "task-lost=3", "task-stuck=2"]
            let sandbox =
                ["--latency", "20ms", "--generation", "2s", "--retry-after", "1s"] + faults.flatMap { ["--fault", $0] }
            try await ServiceFixture.with(sandbox: sandbox) { service in
                let settings = Self.settings.merging([
                    "SEEDREAM_WORKER_CONCURRENCY": "10", "SEEDREAM_FOLLOW_DEADLINE": "30s",
                ]) { $1 }
                var workers: [Program] = []
                for number in 1...2 { workers.append(try await service.startWorker(settings, consumers: number)) }
                try await Self.publish(2000, service)
                for kill in 0..<10 {
                    let before = (try await service.count("looks"), try await service.count("accepted"))
                    // A gate that a killed one was to open again, and its jobs, are left to it for a while.
                    try await eventually("work goes on", within: .seconds(60)) {
                        let looks = try await service.count("looks")
                        let accepted = try await service.count("accepted")
                        return looks > before.0 + 100 && (accepted > before.1 + 50 || accepted > 1800)
                    }
                    workers[kill % 2].signal(SIGKILL)
                    workers[kill % 2] = try service.launchWorker(settings)
                }
                let ends = try await Self.ends(of: 2000, service)
                #expect(ends.values.allSatisfy { $0.count == 1 }, "\(ends.filter { $0.value.count > 1 })")
                var counts = Dictionary(grouping: ends.values.compactMap(\.first)) {
                    $0.hasPrefix("http") ? "images" : $0
                }
                .mapValues(\.count)
                let unknown = counts.removeValue(forKey: "outcome_unknown") ?? 0
                // What was under way at the kills, and what the API answered with garbage.
                #expect(unknown <= 10 * 10 + 60, "\(unknown) unknown")
                #expect(
                    Set(counts.keys)
                        .isSubset(of: [
                            "images", "api_rejected", "retries_exhausted", "generation_failed", "follow_timeout",
                            "response_unreadable",
                        ]),
                    "\(counts)"
                )
                // Tasks that the API does not know are lost after three minutes: here the deadline is earlier.
                let fewest = ["images": 1500, "generation_failed": 30, "follow_timeout": 30]
                for (code, fewest) in fewest { #expect(counts[code, default: 0] >= fewest, "\(counts)") }
                #expect(try await service.count("duplicates") == 0)
                for queue in ["jobs", "jobs.follow"] { try await service.waitFor(0, in: queue) }
            }
        }

        @Test func `5000 tasks that wait cost the worker no memory, and jobs no time`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "0ms", "--generation", "10m"]) { service in
                let rate = 100
                let worker = try await service.startWorker(
                    Self.settings.merging([
                        "SEEDREAM_FOLLOW_DELAYS": "1s,2s", "SEEDREAM_FOLLOW_RATE_LIMIT": "\(rate)/1s",
                    ]) { $1 }
                )
                /// The worker's own time: what else runs on the machine takes nothing of it.
                func ticks(for jobs: Int, _ name: String) async throws -> Int {
                    let accepted = try await service.count("accepted")
                    let start = try worker.processorTicks
                    try await Self.publish(jobs, service, name)
                    try await eventually("their acceptance", within: .seconds(120)) {
                        try await service.count("accepted") >= accepted + Int64(jobs)
                    }
                    return try worker.processorTicks - start
                }
                // The allocator's and the journal's first pages are there before.
                _ = try await ticks(for: 2000, "first")
                let without = try await ticks(for: 4000, "without")
                let before = try worker.privateMemory
                _ = try await ticks(for: 5000, "asked")
                let first = (looks: try await service.count("looks"), at: ContinuousClock.now)
                try await eventually("a look at 1000 of them") {
                    try await service.count("looks") >= first.looks + 1000
                }
                let looks = Double(try await service.count("looks") - first.looks)
                let persecond = looks / ((ContinuousClock.now - first.at) / .seconds(1))
                #expect(persecond < 1.15 * Double(rate), "\(persecond) looks a second")
                // The journal's memory of 5000 more jobs is in it.
                let more = (try worker.privateMemory - before) >> 10
                #expect(more < 4096, "\(more) KiB more for 5000 tasks that wait")
                let with = try await ticks(for: 4000, "with")
                // A processor that others use as well makes all steps dearer, by up to a half.
                #expect(with < 3 * without, "4000 jobs: \(without) ticks without waiting tasks, \(with) with them")
            }
        }

        @Test(.machine) func `a broker that is away while tasks wait loses none`() async throws {
            try await PrivateBroker.with { broker in
                let node = broker.nodes[0]
                let sandbox = ["--latency", "0ms", "--generation", "2s"]
                try await ServiceFixture.with(sandbox: sandbox, on: TestBroker(at: node.urlText)) { service in
                    _ = try await service.startWorker(Self.settings)
                    try await Self.publish(200, service)
                    try await eventually("all wait") { try await service.count("looks") > 200 }
                    try await broker.kill(node)
                    try await Self.waitOut(Self.outage)
                    try await broker.start(node)
                    let ends = try await Self.ends(of: 200, service)
                    let good = ends.values.count { $0.count == 1 && $0.first?.hasPrefix("http") == true }
                    #expect(good == 200, "\(ends)")
                    #expect(try await service.count("duplicates") == 0)
                }
            }
        }

        /// What a server does with a look, until the test says otherwise.
        private enum Absence: CaseIterable { case error, silence, noToken, tooMany }

        @Test(.serialized, arguments: Absence.allCases)
        private func `an API that cannot be asked for a while is asked again`(_ absence: Absence) async throws {
            let isAway = NIOLockedValueBox(true)
            let looks = NIOLockedValueBox(0)
            let server = try await ScriptedServer { _, request in
                guard request.path.hasPrefix("/v1/tasks/") else {
                    let task = #"{"task_id":"t-\#(UUID().uuidString)"}"#
                    return .send(ScriptedServer.answer(200, task))
                }
                looks.withLockedValue { $0 += 1 }
                guard isAway.withLockedValue({ $0 }) else {
                    let images = #"{"status":"completed","result":["https://example.com/1.png"]}"#
                    return .send(ScriptedServer.answer(200, images))
                }
                switch absence {
                case .error: return .send(ScriptedServer.answer(503, "<html>away</html>"))
                case .silence: return .sendAndClose("")
                case .noToken: return .send(ScriptedServer.answer(401, #"{"error":"token"}"#))
                case .tooMany: return .send(ScriptedServer.answer(429, "", headers: "Retry-After: 1\r\n"))
                }
            }
            try await ServiceFixture.with(apiURL: "http://127.0.0.1:\(server.port)") { service in
                _ = try await service.startWorker(
                    Self.settings.merging([
                        "SEEDREAM_GATE_MIN_DELAY": "200ms", "SEEDREAM_GATE_MAX_DELAY": "500ms",
                    ]) { $1 }
                )
                try await Self.publish(10, service)
                try await eventually("looks in vain") { looks.withLockedValue { $0 } > 10 }
                try await Self.waitOut(Self.outage)
                #expect(try await service.ready("jobs.unknown") == 0)
                isAway.withLockedValue { $0 = false }
                let ends = try await Self.ends(of: 10, service)
                #expect(ends.values.allSatisfy { $0 == ["https://example.com/1.png"] }, "\(ends)")
            }
        }

        @Test(.serialized, arguments: [("10m", "follow_timeout"), ("1s", "images")])
        func `a deadline that passes while no worker runs leaves one more look`(_ generation: String, _ end: String)
            async throws
        {
            try await ServiceFixture.with(sandbox: ["--latency", "0ms", "--generation", generation]) { service in
                let settings = Self.settings.merging([
                    "SEEDREAM_FOLLOW_DEADLINE": "3s", "SEEDREAM_FOLLOW_DELAYS": "800ms",
                ]) { $1 }
                let worker = try await service.startWorker(settings)
                try await Self.publish(20, service)
                // With their replies their copies are in the broker.
                try await eventually("all are told of") { try await service.ready("jobs.results") >= 20 }
                worker.signal(SIGKILL)
                try await Self.waitOut(.seconds(3))
                let looks = try await service.count("looks")
                _ = try await service.startWorker(settings)
                let ends = try await Self.ends(of: 20, service)
                let unknown: Set<String> = ["outcome_unknown"]
                // A job that the kill met between its submission and its copy is known by the ledger, or unknown.
                let good = ends.values.count {
                    end == "images" ? $0.first?.hasPrefix("http") == true : $0 == [end]
                }
                #expect(good + ends.values.count { $0 == unknown } == 20 && good >= 10, "\(ends)")
                #expect(try await service.count("looks") - looks <= 20 + 20)
                #expect(try await service.count("accepted") == 20)
            }
        }
    }
}

extension Program {
    /// What the process has had of the processors, in hundredths of a second (proc_pid_stat(5), utime and stime).
    fileprivate var processorTicks: Int {
        get throws {
            let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
            // Behind the name, which may hold anything, the third field comes first.
            let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ").dropFirst()
            return fields.dropFirst(11).prefix(2).reduce(0) { $0 + (Int($1) ?? 0) }
        }
    }

    /// Bytes that only this process has: what one more replica costs its host.
    fileprivate var privateMemory: Int {
        get throws {
            let text = try String(contentsOfFile: "/proc/\(pid)/smaps_rollup", encoding: .utf8)
            let lines = text.split(separator: "\n").filter { $0.hasPrefix("Private_") }
            return lines.reduce(0) { $0 + (Int($1.filter(\.isNumber)) ?? 0) } << 10
        }
    }
}
