import EditJob
import EditWorker
import Foundation
import JSON
import RabbitMQ
import SeedreamAPI
import TestSupport
import Testing

extension ProgramTests {
    /// The files of `deploy`, each tried with the real tool that reads it.
    @Suite(.timeLimit(.minutes(10)))
    struct DeploymentTests {
        private static let deploy = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("deploy")

        private static func path(_ name: String) -> String { deploy.appendingPathComponent(name).path }

        private static func text(_ name: String) throws -> String {
            try String(contentsOf: deploy.appendingPathComponent(name), encoding: .utf8)
        }

        @Test(.serialized, arguments: [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]])
        func `the alerts are good, and fire when they should`(_ arguments: [String]) async throws {
            let outcome = try await Program.run(
                arguments.dropLast() + [Self.path("prometheus/\(arguments[2])")],
                executable: "/usr/bin/promtool"
            )
            #expect(outcome.status == 0, "\(outcome.stdout)\(outcome.stderr)")
        }

        @Test func `every alert is tested, has a runbook line, and is about metrics that there are`() throws {
            let rules = try Self.text("prometheus/alerts.yml")
            let tests = try Self.text("prometheus/alerts.test.yml")
            let names = rules.matches(of: /- alert: (\w+)/).map { String($0.1) }
            #expect(names.count >= 10)
            #expect(rules.matches(of: /runbook: ".+"/).count == names.count)
            for name in names { #expect(tests.contains("- name: \(name)\n"), "\(name)") }
            try Self.expectKnownMetrics(rules)
        }

        @Test func `the dashboard is about metrics that there are`() throws {
            let dashboard = try Self.text("grafana/dashboard.json")
            guard case .array(let panels)? = try JSONValue(parsing: dashboard.utf8)["panels"] else {
                Issue.record("no panels")
                return
            }
            #expect(panels.count > 15)
            #expect(Set(panels.compactMap { $0["id"]?.exactInteger }).count == panels.count)
            try Self.expectKnownMetrics(dashboard)
            for metric in WorkerMetric.allCases { #expect(dashboard.contains(metric.rawValue), "\(metric.rawValue)") }
        }

        private static func expectKnownMetrics(_ text: String) throws {
            let known = Set(WorkerMetric.allCases.map(\.rawValue))
            for match in text.matches(of: /seedream_[a-z_]+/) {
                let name = String(match.0)
                let family = name.hasSuffix("_bucket") ? String(name.dropLast("_bucket".count)) : name
                #expect(known.contains(family), "\(name)")
            }
        }

        @Test(.machine) func `the definitions can be imported, and each user can do its work and no more`()
            async throws
        {
            try await PrivateBroker.with { cluster in
                let node = cluster.nodes[0]
                let major = try await cluster.majorVersion()
                try await cluster.importDefinitions(Self.text("rabbitmq/definitions-\(major).json"), into: node)
                for user in ["worker", "producer", "operator"] {
                    try await cluster.control(node, "change_password", "seedream-\(user)", "\(user)-password")
                }
                func environment(_ user: String) -> [String: String] {
                    [
                        "SEEDREAM_AMQP_URL": "amqp://seedream-\(user):\(user)-password@127.0.0.1:\(node.port)/seedream",
                        "SEEDREAM_QUEUE_NAME": "seedream.edit",
                    ]
                }
                let broker = try TestBroker(at: "amqp://guest:guest@127.0.0.1:\(node.port)/")
                try await cluster.control(node, "set_permissions", "-p", "seedream", "guest", ".*", ".*", ".*")
                try await ServiceFixture.with(on: broker) { service in
                    // Same arguments as the worker's own, or the broker would refuse.
                    for command in ["verify", "declare"] {
                        let outcome = try await service.run(["topology", command], environment("operator"))
                        #expect(outcome.status == 0, "\(command): \(outcome.stderr)")
                    }
                    let doctor = try await service.run(["doctor"], environment("operator"))
                    #expect(doctor.status == 0, "\(doctor.stdout)")
                    #expect(!doctor.stdout.contains("x-delivery-limit"), "\(doctor.stdout)")
                    let looked = try await service.run(["topology", "verify"], environment("worker"))
                    #expect(looked.status == 0, "\(looked.stderr)")

                    let verify = ["SEEDREAM_QUEUE_TOPOLOGY": "verify"]
                    let worker = try service.launchWorker(environment("worker").merging(verify) { $1 })
                    try await worker.waitForStderr("consuming")
                    let good = ServiceFixture.job()
                    let submitted = try await service.run(
                        ["submit", "-", "--wait", "--no-check"],
                        stdin: "\(good)\n{}\n",
                        environment("producer")
                    )
                    #expect(submitted.stderr.contains("1 submitted, 1 failed (1 invalid_job)"), "\(submitted.stderr)")
                    let replies = submitted.stdout.split(separator: "\n").map(String.init)
                    #expect(try await SchemaCheck.verdicts(of: replies, by: "reply.schema.json") == [true, true])
                    #expect(try await SchemaCheck.verdicts(of: ["{}"], by: "reply.schema.json") == [false])

                    // Past their own exchange producers reach no queue of ours.
                    let door = try AMQPURL(
                        parsing: "amqp://seedream-producer:producer-password@127.0.0.1:\(node.port)/seedream"
                    )
                    let queues = [
                        "", ".ledger", ".dlq", ".unknown", ".results", ".retry.1s", ".undelivered", ".follow",
                    ]
                    for queue in queues.map({ ByteString("seedream.edit\($0)") }) {
                        let producer = try await AMQPConnection.open(door, options: .init(name: "test"))
                        let refused = await #expect(throws: AMQPError.self) {
                            try await producer.publish(OutboundMessage(routingKey: queue, body: [1]))
                        }
                        #expect(refused?.code == .accessRefused, "\(queue)")
                        await producer.close()
                    }

                    let list = try await service.run(["dead-letters", "list"], environment("operator"))
                    #expect(list.stdout.hasPrefix("1 dead letters: 1 invalid_job"), "\(list.stderr)")
                    let replay = try await service.run(["dead-letters", "replay"], environment("operator"))
                    #expect(replay.status == 0, "\(replay.stderr)")

                    for (user, arguments) in [
                        ("worker", ["topology", "declare"]), ("worker", ["dead-letters", "list"]),
                        ("producer", ["topology", "declare"]), ("producer", ["dead-letters", "list"]),
                    ] {
                        let refused = try await service.run(
                            arguments,
                            environment(user).merging(["SEEDREAM_QUEUE_NAME": "seedream.edit"]) { $1 }
                        )
                        // A declaration of what is there already needs the right to configure it too.
                        #expect(refused.status == 77, "\(user) \(arguments): \(refused.stderr)")
                    }
                }
            }
        }

        @Test func `the unit is one that systemd takes, and it waits longer than the drain`() async throws {
            let unit = try Self.text("systemd/seedream-worker@.service")
            // The binary is checked for too, and stands elsewhere here.
            let here = unit.replacingOccurrences(of: "/usr/bin/seedream-worker", with: Program.path)
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("seedream-worker@1.service")
            try Data(here.utf8).write(to: path)
            let outcome = try await Program.run(["verify", path.path], executable: "/usr/bin/systemd-analyze")
            #expect(outcome.status == 0, "\(outcome.stderr)")
            let complaints = outcome.stderr.split(separator: "\n").filter { $0.contains("seedream-worker") }
            #expect(complaints.isEmpty, "\(complaints)")
            #expect(unit.contains("TimeoutStopSec=45s"))
        }

        @Test func `the YAML can be read, and what it says fits together`() async throws {
            let script = """
                import pathlib, sys, yaml
                deploy = pathlib.Path(sys.argv[1])
                files = {str(path.relative_to(deploy)): list(yaml.safe_load_all(path.read_text()))
                         for path in deploy.rglob("*.y*ml")}
                pod = files["kubernetes/deployment.yaml"][0]["spec"]["template"]["spec"]
                container = pod["containers"][0]
                variables = {entry["name"]: entry.get("value") for entry in container["env"]}
                drain = int(variables["SEEDREAM_WORKER_DRAIN_TIMEOUT"].rstrip("s"))
                assert pod["terminationGracePeriodSeconds"] > drain
                assert container["securityContext"]["readOnlyRootFilesystem"]
                worker = files["compose.yaml"][0]["services"]["worker"]
                drain = int(worker["environment"]["SEEDREAM_WORKER_DRAIN_TIMEOUT"].rstrip("s"))
                assert int(worker["stop_grace_period"].rstrip("s")) > drain
                for folder in ["kubernetes", "kubernetes/console"]:
                    listed = set(files[f"{folder}/kustomization.yaml"][0]["resources"])
                    there = {path.name for path in (deploy / folder).glob("*.yaml")}
                    assert listed == there - {"kustomization.yaml", "secret.example.yaml"}
                # Whoever reaches a console may use it.
                console = files["kubernetes/console/deployment.yaml"][0]["spec"]["template"]["spec"]["containers"][0]
                for arguments in [console["args"], files["compose.yaml"][0]["services"]["console"]["command"]]:
                    assert arguments[0] == "console" and "--password-file" in arguments
                assert files["compose.yaml"][0]["services"]["console"]["profiles"] == ["console"]
                api = files["asyncapi.yaml"][0]
                def resolve(node):
                    if isinstance(node, dict):
                        reference = node.get("$ref", "")
                        if reference.startswith("#/"):
                            place = api
                            for step in reference[2:].split("/"): place = place[step]
                        elif reference:
                            assert (deploy / reference.split("#")[0]).exists(), reference
                        for value in node.values(): resolve(value)
                    elif isinstance(node, list):
                        for value in node: resolve(value)
                resolve(api)
                print(" ".join(name for name in variables if name.startswith("SEEDREAM_")))
                """
            let outcome = try await Program.run(["-c", script, Self.deploy.path], executable: "/usr/bin/python3")
            #expect(outcome.status == 0, "\(outcome.stderr)")
            let settings = try await Program.run(["settings", "--format", "json"])
            for name in outcome.stdout.split(whereSeparator: \.isWhitespace) {
                #expect(settings.stdout.contains("\"\(name)") || name.hasSuffix("_FILE"), "\(name)")
            }
        }

        @Test(.serialized, arguments: [(3, "3.10.8"), (4, "4"), (4, "4.3.2")])
        func `the topology that is deployed is the topology that is printed`(
            _ major: Int,
            _ version: String
        ) async throws {
            let definitions = try Self.text("rabbitmq/definitions-\(major).json")
            let printed = try await Program.run([
                "topology", "print", "--broker-version", version, "--amqp-url", "amqp://localhost/seedream",
                "--queue-name", "seedream.edit",
            ])
            let deployed = try JSONValue(parsing: definitions.utf8)
            let own = try JSONValue(parsing: printed.stdout.utf8)
            for part in ["queues", "exchanges", "bindings"] { #expect(own[part] == deployed[part], "\(part)") }
            #expect(!definitions.contains("\"password\""))
            #expect(definitions.contains("\"x-delivery-limit\": -1") == (major >= 4))
        }

        @Test func `without a broker to ask, the print says which version it is for`() async throws {
            let printed = try await Program.run(["topology", "print", "--amqp-url", "amqp://127.0.0.1:1/"])
            #expect(printed.status == 0)
            #expect(printed.stderr.contains("--broker-version 4"))
            #expect(!printed.stdout.contains("-1"))
            #expect(try await Program.run(["topology", "print", "--broker-version", "four"]).status == 64)
        }

        @Test func `the alerts name only what the code knows`() throws {
            let rules = try Self.text("prometheus/alerts.yml")
            for name in ["unauthorized", "payment_required"] { #expect(!rules.contains(name)) }
            // Every word in the form of a code, at the place of a reason, code, result or role.
            let known =
                Set(GateReason.allCases.map(\.rawValue)).union(JobFailure.Code.allCases.map(\.rawValue))
                .union(JobEnd.Label.allCases.map(\.rawValue)).union(["message_id", "returned"])
            for match in rules.matches(of: /runbook: "(.+)"/) {
                for word in match.1.matches(of: /\b([a-z]+(?:_[a-z]+)+|auth|credits|quota)\b/) {
                    let name = String(word.1)
                    #expect(known.contains(name) || WorkerMetric(rawValue: name) != nil, "\(name)")
                }
            }
        }
    }
}
