import NIOCore
import NIOPosix
import SeedreamAPI
import Settings

/// The API's part of `doctor`: the way there, and whether it takes the token; nothing that costs.
enum APIExamination {
    /// No task has this name.
    private static let noTask = "00000000-0000-0000-0000-000000000000"

    /// Whether the API takes the token; nil if that cannot be known.
    static func examine(_ settings: WorkerSettings, token: String?, _ tell: (Finding) -> Void) async -> Bool? {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let way = await reach(settings, group)
        tell(way)
        try? await group.shutdownGracefully()
        guard way.status == .ok, let token else { return nil }
        let (finding, isTaken) = await tryToken(token, settings)
        tell(finding)
        return isTaken
    }

    /// Looks at a task that does not exist, which is free.
    private static func tryToken(_ token: String, _ settings: WorkerSettings) async -> (Finding, isTaken: Bool?) {
        let result: SubmissionResult
        do {
            let client = try settings.lookingClient()
            result = await client.look(atTask: noTask, token: token)
            try? await client.shutdown()
        } catch {
            return (.warning("token", "could not be tried: \(error)"), nil)
        }
        let status = TaskStatusTable.status(of: result)
        if status.isAnswer { return (.ok("token", "the API takes it, as a look at a task shows"), true) }
        if case .noAnswer(_, isTokenRefused: true) = status {
            let finding = Finding.fault("token", "the API refuses it", remedy: GateReason.auth.remedy)
            return (finding, false)
        }
        let seen = TaskStatusTable.description(of: result)
        return (.warning("token", "could not be tried: a look at a task got \(seen)"), nil)
    }

    private static func reach(_ settings: WorkerSettings, _ group: MultiThreadedEventLoopGroup) async -> Finding {
        do throws(EndpointProbe.Fault) {
            let (address, version) = try await EndpointProbe.reach(
                settings.apiBaseURL,
                caFile: settings.apiCAFile,
                proxy: settings.apiProxy,
                timeout: settings.apiConnectTimeout,
                group: group
            )
            let way = settings.apiProxy.map { " through the proxy \($0)" } ?? ""
            return .ok(
                "api",
                "\(address) answers\(way)\(version.map { ", \($0), its certificate is good" } ?? ", without TLS")"
            )
        } catch {
            switch error {
            case .invalidURL:
                return .fault("api", "api.baseUrl is not a URL", remedy: "set SEEDREAM_API_BASE_URL")
            case .nameNotResolved(let host):
                return .fault(
                    "api",
                    "there is no address for \(host)",
                    remedy: "check api.baseUrl and the DNS of this host"
                )
            case .unreachable(let address, let reason):
                return .fault(
                    "api",
                    "no connection to \(address): \(reason)",
                    remedy: "check api.baseUrl, api.proxy and the firewall of this host"
                )
            case .tls(let address, let reason):
                return .fault(
                    "api",
                    "no TLS with \(address): \(reason)",
                    remedy: "if the certificate was issued by an authority of your own, set api.caFile to it"
                )
            }
        }
    }
}
