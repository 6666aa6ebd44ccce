import NIOCore
import NIOPosix
import SeedreamAPI
import Settings

/// The API's part of `doctor`: the way there, and no request.
enum APIExamination {
    static func examine(_ settings: WorkerSettings, _ tell: (Finding) -> Void) async {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        tell(await reach(settings, group))
        try? await group.shutdownGracefully()
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
