import NIOPosix
import SeedreamAPI
import Settings

extension WorkerSettings {
    /// A client for looks at tasks, for which a person waits; to be shut down.
    func lookingClient() throws -> SeedreamClient {
        var options = SeedreamClient.Options(
            baseURL: apiBaseURL,
            connections: 4,
            userAgent: "seedream-worker/\(Version.current)"
        )
        options.timeout = .seconds(5)
        options.connectTimeout = apiConnectTimeout
        options.caFile = apiCAFile
        options.proxy = apiProxy
        return try SeedreamClient(options, group: MultiThreadedEventLoopGroup.singleton)
    }
}
