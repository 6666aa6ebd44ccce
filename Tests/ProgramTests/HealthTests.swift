import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// `/livez`, `/readyz` and `/metrics` of the real program.
    @Suite(.timeLimit(.minutes(10)))
    struct HealthTests {
        /// A worker that listens on a free port, and the address where it does.
        private static func startWorker(
            _ service: ServiceFixture,
            _ more: [String: String] = [:]
        ) async throws -> (worker: Program, url: String) {
            let worker = try service.launchWorker(
                more.merging(["SEEDREAM_HTTP_LISTEN": "127.0.0.1:0"]) { given, _ in given }
            )
            return (worker, try await HTTPGet.healthURL(of: worker))
        }

        @Test func `a worker that has all it needs is ready, and one that drains is not`() async throws {
            try await ServiceFixture.with(sandbox: ["--latency", "10s"]) { service in
                let (worker, url) = try await Self.startWorker(service)
                try await eventually("ready") { try await HTTPGet(url + "/readyz").status == 200 }
                #expect(try await HTTPGet(url + "/readyz").json["ready"] == .boolean(true))
                #expect(try await HTTPGet(url + "/livez").status == 200)
                #expect(try await HTTPGet(url + "/nothing").status == 404)
                try await service.publish([ServiceFixture.job()])
                try await eventually("a submission") { try await service.count("in_flight") == 1 }
                worker.signal(SIGTERM)
                try await eventually("not ready") {
                    try await HTTPGet(url + "/readyz").missing.contains("not draining")
                }
                #expect(try await worker.outcome().status == 0)
            }
        }

        @Test func `without a broker a worker lives and says what it misses`() async throws {
            let worker = try Program(
                ["run"],
                environment: [
                    "SEEDREAM_API_TOKEN": "t", "SEEDREAM_AMQP_URL": "amqp://127.0.0.1:1/",
                    "SEEDREAM_HTTP_LISTEN": "127.0.0.1:0",
                ]
            )
            defer { worker.signal(SIGKILL) }
            let url = try await HTTPGet.healthURL(of: worker)
            #expect(try await HTTPGet(url + "/livez").status == 200)
            try await eventually("the reasons") {
                let answer = try await HTTPGet(url + "/readyz")
                #expect(answer.status == 503)
                #expect(answer.missing.contains("consumer registered"))
                return answer.json["missing"]?.elements.contains { $0["reason"]?.text == "unreachable" } == true
            }
            let metrics = try await HTTPGet(url + "/metrics").text
            #expect(metrics.contains("seedream_amqp_connected{role=\"consumer\"} 0\n"))
        }

        @Test func `a closed gate is told with its reason`() async throws {
            try await ServiceFixture.with { service in
                let (_, url) = try await Self.startWorker(service, ["SEEDREAM_API_TOKEN": "wrong"])
                try await service.broker.withConnection { connection in
                    try await eventually("the queues") { (try? await connection.inspect(queue: "jobs")) != nil }
                }
                try await service.publish([ServiceFixture.job()])
                try await eventually("the gate") {
                    let answer = try await HTTPGet(url + "/readyz")
                    return answer.status == 503 && answer.missing == ["gate"]
                        && answer.json["missing"]?.elements.first?["reason"]?.text == "auth"
                }
                let metrics = try await HTTPGet(url + "/metrics").text
                #expect(metrics.contains("seedream_gate_open 0\n"))
                #expect(metrics.contains("seedream_gate_closures_total{reason=\"auth\"} 1\n"))
            }
        }

        @Test func `an address that is taken ends the worker with 69`() async throws {
            try await ServiceFixture.with { service in
                let (_, url) = try await Self.startWorker(service)
                let address = url.replacing("http://", with: "")
                let second = try service.launchWorker(["SEEDREAM_HTTP_LISTEN": address])
                let outcome = try await second.outcome()
                #expect(outcome.status == 69)
                #expect(outcome.stderr.contains("http.listen: cannot listen on \(address)"))
            }
        }

        @Test func `the metrics add up with what the sandbox and the queues have counted`() async throws {
            let faults = ["500=5", "429=5", "reset=3", "garbage=2", "no-task-id=2", "422=3"]
                .flatMap { ["--fault", $0] }
            try await ServiceFixture.with(sandbox: ["--latency", "5ms", "--retry-after", "1s"] + faults) { service in
                let (worker, url) = try await Self.startWorker(
                    service,
                    ["SEEDREAM_RETRY_DELAYS": "100ms,300ms", "SEEDREAM_LOG_LEVEL": "debug"]
                )
                try await service.broker.withConnection { connection in
                    try await eventually("the queues") { (try? await connection.inspect(queue: "jobs")) != nil }
                }
                // Some without an id, and some that are no jobs.
                try await service.publish(
                    (0..<600).map { $0 % 20 == 0 ? "{}" : ServiceFixture.job() }
                ) { index, properties in
                    if index % 10 == 1 { properties.messageID = nil }
                    properties.timestamp = UInt64(Date.now.timeIntervalSince1970) - 20
                }
                try await service.waitFor(600, in: "jobs.results", within: .seconds(90))
                try await eventually("nothing in flight") {
                    try await Metrics(url).value("seedream_jobs_in_flight") == 0
                }
                let metrics = try await Metrics(url)
                let statistics = try await service.statistics()
                let settled = metrics.byLabel("seedream_jobs_settled_total", "result")
                let failed = try await service.ready("jobs.dlq")
                let unknown = try await service.ready("jobs.unknown")
                #expect(settled["failed"] == Double(failed))
                #expect(settled["unknown"] == Double(unknown))
                #expect(settled["submitted"] == Double(600 - failed - unknown))
                #expect(metrics.sum("seedream_jobs_received_total") == settled.values.reduce(0, +))
                #expect(metrics.sum("seedream_job_failures_total") == Double(failed + unknown))
                #expect(metrics.byLabel("seedream_job_failures_total", "code")["invalid_job"] == 30)
                #expect(metrics.sum("seedream_replies_total") == 600)
                #expect(metrics.sum("seedream_job_duration_seconds_count") == settled.values.reduce(0, +))
                #expect(metrics.sum("seedream_job_age_seconds_sum") > 600 * 19)
                let requests = metrics.byLabel("seedream_api_requests_total", "status")
                #expect(requests.values.reduce(0, +) == Double(statistics["requests"]?.exactInteger ?? -1))
                #expect(requests["none"] == Double(statistics["unanswered"]?.exactInteger ?? -1))
                for (status, count) in requests where status != "none" {
                    #expect(count == Double(statistics["by_status"]?[status]?.exactInteger ?? -1), "\(status)")
                }
                #expect(metrics.sum("seedream_api_request_duration_seconds_count") == requests.values.reduce(0, +))
                #expect(metrics.sum("seedream_jobs_anonymous_total") >= 60)
                #expect(metrics.byLabel("seedream_gate_closures_total", "reason")["rate_limited"] ?? 0 > 0)
                let check = try await Program.run(
                    ["check", "metrics"],
                    stdin: metrics.text,
                    executable: "/usr/bin/promtool"
                )
                #expect(check.status == 0, "\(check.stderr)\(check.stdout)")
                #expect(check.stderr + check.stdout == "")
                worker.signal(SIGTERM)
                let log = try await worker.outcome().stderr
                // Each job has its line.
                for index in 0..<600 where index % 10 != 1 { #expect(log.contains("\"job-\(index)\"")) }
            }
        }
    }
}

/// The answer to a GET.
struct HTTPGet {
    let status: Int
    let text: String

    init(_ url: String) async throws {
        let outcome = try await Program.run(
            ["-s", "--max-time", "10", "-w", "\n%{http_code}", url],
            executable: "/usr/bin/curl"
        )
        let end = outcome.stdout.lastIndex(of: "\n") ?? outcome.stdout.startIndex
        status = Int(outcome.stdout[end...].dropFirst()) ?? 0
        text = String(outcome.stdout[..<end])
    }

    var json: JSONValue { (try? JSONValue(parsing: text.utf8)) ?? .null }

    /// What a `/readyz` misses.
    var missing: [String] { json["missing"]?.elements.compactMap { $0["what"]?.text } ?? [] }

    /// Where a worker that was told port 0 listens.
    static func healthURL(of worker: Program) async throws -> String {
        try await worker.waitForStderr("health and metrics")
        for line in worker.stderr.split(separator: "\n") where line.contains("health and metrics") {
            if let address = try JSONValue(parsing: line.utf8)["address"]?.text { return "http://\(address)" }
        }
        throw DeadlinePassed(description: "no address in \(worker.stderr)")
    }
}

/// A scrape of `/metrics`.
struct Metrics {
    let text: String
    private let values: [(name: String, labels: String, value: Double)]

    init(_ url: String) async throws {
        text = try await HTTPGet(url + "/metrics").text + "\n"
        values = text.split(separator: "\n").filter { !$0.hasPrefix("#") }
            .compactMap { line in
                let parts = line.split(separator: " ")
                guard parts.count == 2, let value = Double(parts[1]) else { return nil }
                let names = parts[0].split(separator: "{", maxSplits: 1)
                return (String(names[0]), names.count > 1 ? String(names[1].dropLast()) : "", value)
            }
    }

    /// The value of a metric without labels.
    func value(_ name: String) -> Double? { values.first { $0.name == name }?.value }

    /// The sum over all labels.
    func sum(_ name: String) -> Double { values.filter { $0.name == name }.map(\.value).reduce(0, +) }

    /// The values by one label.
    func byLabel(_ name: String, _ label: String) -> [String: Double] {
        Dictionary(
            values.filter { $0.name == name }
                .compactMap { entry in
                    entry.labels.split(separator: ",").first { $0.hasPrefix("\(label)=") }
                        .map { (String($0.dropFirst(label.count + 2).dropLast()), entry.value) }
                }
        ) { $0 + $1 }
    }
}
