package import NIOCore
package import NIOHTTP1

/// A request that has been read whole.
package struct HTTPRequest: Sendable {
    package let method: HTTPMethod
    /// As it was sent, percent encoding included.
    package let path: String
    /// What stands behind the `?`, as it was sent.
    package let query: String?
    /// The `Host` field, nil if there is none.
    package let host: String?
    package let headers: HTTPHeaders
    /// Nil if it was longer than the server keeps.
    package let body: ByteBuffer?

    /// Nil if there are two `Host` fields, so that it is unclear which one is meant.
    ///
    /// Source: RFC 9112, sections 3.2 and 3.2.2.
    init?(_ head: HTTPRequestHead, body: ByteBuffer?) {
        let hosts = head.headers["Host"]
        guard hosts.count <= 1 else { return nil }
        var target = Substring(head.uri)
        // The form for proxies names the server before the path.
        for scheme in ["http://", "https://"] where target.lowercased().hasPrefix(scheme) {
            target = target.dropFirst(scheme.count).drop { $0 != "/" && $0 != "?" }
        }
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        method = head.method
        path = parts[0].isEmpty ? "/" : String(parts[0])
        query = parts.count > 1 ? String(parts[1]) : nil
        host = hosts.first
        headers = head.headers
        self.body = body
    }
}

/// What a request is answered with.
package struct HTTPResponse: Sendable {
    /// The content and how it is sent.
    package enum Body: Sendable {
        case bytes(ByteBuffer)
        /// Sent piece by piece, each when the one before is on its way: all of it may be larger than memory.
        case pieces(AsyncThrowingStream<ByteBuffer, any Error>)
    }

    package var status: HTTPResponseStatus
    package var headers: HTTPHeaders
    package var body: Body

    /// A response of a content type.
    package init(_ status: HTTPResponseStatus = .ok, type: String, _ body: Body) {
        self.status = status
        headers = ["Content-Type": type]
        self.body = body
    }

    /// A response whose bytes are there.
    package init(_ status: HTTPResponseStatus = .ok, type: String, _ bytes: some Sequence<UInt8>) {
        self.init(status, type: type, .bytes(ByteBuffer(bytes: bytes)))
    }
}
