import ArgumentParser
import SeedreamAPI
import Settings

/// `health`: whether the worker on this host is alive, for a container's health check.
struct Health: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ask the worker on this host whether it is alive; 0 if it is.",
        discussion: """
            Example: seedream-worker health --listen 127.0.0.1:9464

            Asks /livez of http.listen and waits at most 3s.
            """
    )

    @Option(help: ArgumentHelp("The address of the health endpoints, instead of http.listen.", valueName: "host:port"))
    var listen: String?

    @OptionGroup
    var settings: SettingFlags<HealthSettings>

    func run() async throws {
        let address: WorkerSettings.ListenAddress
        if let listen {
            guard let given = WorkerSettings.ListenAddress(listen) else {
                throw ValidationError("--listen '\(listen)' is not HOST:PORT")
            }
            address = given
        } else {
            guard let set = try settings.read().settings.httpListen else { throw Self.failure("http.listen is off") }
            address = set
        }
        let unspecified = ["0.0.0.0": "127.0.0.1", "::": "::1"]
        let host = unspecified[address.host] ?? address.host
        let shown = host.contains(":") ? "[\(host)]:\(address.port)" : "\(host):\(address.port)"
        do throws(ImageFetch.Fault) {
            _ = try await ImageFetch.bytes(
                at: "http://\(shown)/livez",
                limit: 4096,
                timeout: .seconds(3),
                userAgent: "seedream-worker/\(Version.current)"
            )
        } catch {
            throw Self.failure("\(shown) is not alive: \(error)")
        }
    }

    private static func failure(_ why: String) -> ExitCode {
        Output.error("seedream-worker: \(why)")
        return ExitCode(ExitStatus.someFailed)
    }
}

/// What is needed to find the worker.
enum HealthSettings: SettingChoice {
    static func includes(_ key: String) -> Bool { key == "http.listen" }
}
