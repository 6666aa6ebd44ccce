import NIOCore
package import NIOPosix
package import SharedValues

/// Gets an image from where the API says that it is: once, without a token, and never from where a redirect points.
package enum ImageFetch {
    /// Why there is no image.
    package enum Fault: Error, Hashable, Sendable, CustomStringConvertible {
        case noURL
        case status(Int)
        case tooLarge(limit: Int)
        case cut
        case failed(TransportFailure)

        package var description: String {
            switch self {
            case .noURL: "its address is no http or https URL"
            case .status(let status): "its server answers \(status)"
            case .tooLarge(let limit): "it has more than \(limit) bytes"
            case .cut: "the connection or the time ended in the middle of it"
            case .failed(let failure): failure.explanation
            }
        }
    }

    /// The bytes at a URL, at most `limit`, within `timeout`; `proxy` gives the proxy for a host.
    package static func bytes(
        at url: String,
        limit: Int = 64 << 20,
        timeout: Duration = .seconds(60),
        userAgent: String,
        proxy: (_ host: String, _ port: Int, _ isSecure: Bool) -> ProxyAddress? = { _, _, _ in nil },
        group: MultiThreadedEventLoopGroup = .singleton
    ) async throws(Fault) -> [UInt8] {
        let withoutFragment = url.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)[0]
        guard url.utf8.allSatisfy({ (0x21...0x7E).contains($0) }), let endpoint = APIEndpoint(String(withoutFragment)),
            let connector = try? EndpointConnector(
                endpoint,
                caFile: nil,
                proxy: proxy(endpoint.host, endpoint.port, endpoint.isSecure),
                timeout: min(timeout, .seconds(10))
            )
        else { throw .noURL }
        let loop = group.next()
        let request = ByteBuffer(
            string: """
                GET \(endpoint.path.isEmpty ? "/" : endpoint.path) HTTP/1.1\r
                Host: \(endpoint.hostField)\r
                Accept: image/*\r
                Accept-Encoding: identity\r
                User-Agent: \(userAgent)\r
                Connection: close\r
                \r\n
                """
        )
        let exchange = NIOLoopBoundBox.makeBoxSendingValue(
            SubmissionExchange(request, deadline: .now() + TimeAmount(timeout), longestBody: limit),
            eventLoop: loop
        )
        let pool = NIOLoopBoundBox.makeBoxSendingValue(
            HTTPConnectionPool(connector, on: loop, limit: 1, idleTimeout: .zero, longestBody: limit),
            eventLoop: loop
        )
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                loop.execute {
                    exchange.value.answer = { continuation.resume(returning: $0) }
                    pool.value.submit(exchange.value)
                }
            }
        } onCancel: {
            loop.execute { pool.value.cancel(exchange.value) }
        }
        try? await loop.flatSubmit { pool.value.shutdown() }.get()
        switch result {
        case .failed(let failure): throw .failed(failure)
        case .answered(let answer):
            guard (200...299).contains(answer.status) else { throw .status(answer.status) }
            switch answer.body {
            case .complete(let bytes): return bytes
            case .tooLong: throw .tooLarge(limit: limit)
            case .cut: throw .cut
            }
        }
    }
}

extension TransportFailure {
    /// What happened, of the server of an image.
    fileprivate var explanation: String {
        switch self {
        case .nameNotResolved: "its server's name has no address"
        case .notConnected, .notWritten: "its server cannot be reached"
        case .proxy(let words): words
        case .outOfFiles: "this process may open no more files"
        case .tls: "its server's certificate is not trusted, or TLS failed"
        case .timedOut: "its server did not answer in time"
        case .connectionEnded: "its server closed the connection without an answer"
        case .cancelled: "it was given up"
        }
    }
}
