import ArgumentParser
import EditWorker
import Logging
import Sandbox
import SeedreamAPI
import Settings
import SharedValues

/// `sandbox`: a stand-in for the API.
struct SandboxCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sandbox",
        abstract: "Stand in for the API: check requests by its rules, and misbehave on demand.",
        discussion: """
            Example: seedream-worker sandbox --latency 1s --fault 429=5 --fault reset=3 --retry-after 2s

            Kinds of faults: an HTTP status, reset (reads the request, closes), hang, garbage (200, HTML), no-task-id, \
            envelope-401 (200, {"code":401,…}), task-failed, task-lost and task-stuck (the job is taken, and its task \
            ends so). GET /stats tells what was seen.
            """
    )

    @Option(help: ArgumentHelp("The address to listen on. Port 0 takes a free one.", valueName: "host:port"))
    var listen = "127.0.0.1:8080"

    @Option(help: "The only token to accept. Without it, any is accepted.")
    var token: String?

    @Option(help: ArgumentHelp("The delay before each answer.", valueName: "duration"))
    var latency = "200ms"

    @Option(help: ArgumentHelp("How long each task takes from its acceptance to its images.", valueName: "duration"))
    var generation = "5s"

    @Option(
        help: ArgumentHelp(
            "A kind of fault, and the percentage of requests that get it. Can be repeated.",
            valueName: "kind=percent"
        )
    )
    var fault: [String] = []

    @Option(help: ArgumentHelp("The Retry-After header of each 429 and 503.", valueName: "duration"))
    var retryAfter: String?

    func run() async throws {
        guard let address = WorkerSettings.ListenAddress(listen) else {
            throw ValidationError("--listen '\(listen)' is not HOST:PORT")
        }
        guard let latency = DurationText.parse(latency) else {
            throw ValidationError("--latency '\(latency)' is not a duration such as 200ms")
        }
        let shares = try fault.map { text in
            guard let share = FaultMix.Share(text) else {
                throw ValidationError(
                    "--fault '\(text)' is not KIND=PERCENT; kinds are an HTTP status from 300 to 599, reset, hang, "
                        + "garbage, no-task-id, envelope-401, task-failed, task-lost and task-stuck"
                )
            }
            return share
        }
        guard let mix = FaultMix(shares) else { throw ValidationError("the faults add up to more than 100 percent") }
        var options = SandboxServer.Options(host: address.host, port: address.port, faults: mix)
        options.token = token
        options.latency = latency
        guard let generation = DurationText.parse(generation) else {
            throw ValidationError("--generation '\(generation)' is not a duration such as 5s")
        }
        options.generation = generation
        options.retryAfter = try retryAfter.map { text in
            guard let wait = DurationText.parse(text) else {
                throw ValidationError("--retry-after '\(text)' is not a duration such as 2s")
            }
            return wait
        }
        let host = address.host
        let sandbox = SandboxServer(options)
        do {
            _ = try await Interruption.run {
                try await sandbox.run { port in
                    Output.error("sandbox: http://\(host):\(port), statistics at http://\(host):\(port)/stats")
                }
            }
        } catch {
            Output.error(
                "seedream-worker: --listen: \(error); is the port taken?"
            )
            throw ExitCode(ExitStatus.unavailable)
        }
    }
}
