import NIOCore
import SharedValues

/// Writes submissions as HTTP/1.1 requests, each into one buffer.
///
/// Most of a request is the same every time. Writing that part once, and no list of fields for each request, takes a
/// fraction of what NIO's encoder does. Source: RFC 9112 §3 and §5.
struct RequestEncoder: Sendable {
    /// The request's line and the fields that never change.
    private let start: ByteBuffer
    private let endpoint: APIEndpoint
    private let userAgent: String

    /// An encoder for `POST` requests to a path below the endpoint's own.
    init(_ endpoint: APIEndpoint, path: String, userAgent: String) {
        self.endpoint = endpoint
        self.userAgent = userAgent
        start = ByteBuffer(
            string: """
                POST \(endpoint.path)\(path) HTTP/1.1\r
                Host: \(endpoint.hostField)\r
                Content-Type: application/json\r
                Accept: application/json\r
                Accept-Encoding: identity\r
                User-Agent: \(userAgent)\r\n
                """
        )
    }

    /// The request; nil if a text cannot be the value of a field, as a token with a line break.
    func encode(_ submission: SubmissionRequest) -> ByteBuffer? {
        guard !submission.token.utf8.contains(UInt8(ascii: " ")) else { return nil }
        let key = submission.idempotencyKey
        // A buffer's size is a power of two: one that is too small by a little is copied, one too large is twice as large.
        let fields = [submission.token, key, submission.traceparent, submission.tracestate]
            .reduce(128) { $0 + ($1?.utf8.count ?? 0) }
        var request = ByteBufferAllocator().buffer(capacity: start.readableBytes + fields + submission.body.count)
        request.writeImmutableBuffer(start)
        guard Self.write("Authorization: Bearer ", submission.token, to: &request),
            Self.write("Content-Length: ", String(submission.body.count), to: &request),
            Self.write("Idempotency-Key: ", key, to: &request),
            Self.write("traceparent: ", submission.traceparent, to: &request),
            Self.write("tracestate: ", submission.tracestate, to: &request)
        else { return nil }
        request.writeStaticString("\r\n")
        request.writeBytes(submission.body)
        return request
    }

    /// A request for the status of a task; nil if a text cannot be the value of a field.
    func encodeLook(atTask taskID: String, token: String) -> ByteBuffer? {
        guard !token.utf8.contains(UInt8(ascii: " ")) else { return nil }
        // Whatever the API calls its tasks stays one segment of the path (RFC 3986 §3.3).
        let segment = PercentEncoding.encode(taskID.utf8) { byte in
            !Self.unreserved.contains(byte)
        }
        var request = ByteBuffer(
            string: """
                GET \(endpoint.path)\(SeedreamClient.tasksPath)/\(segment) HTTP/1.1\r
                Host: \(endpoint.hostField)\r
                Accept: application/json\r
                Accept-Encoding: identity\r
                User-Agent: \(userAgent)\r\n
                """
        )
        guard Self.write("Authorization: Bearer ", token, to: &request) else { return nil }
        request.writeStaticString("\r\n")
        return request
    }

    /// RFC 3986 §2.3.
    private static let unreserved = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~".utf8)

    /// Writes a field where there is a value; false if that has more than visible ASCII and blanks (RFC 9110 §5.5).
    private static func write(_ name: StaticString, _ value: String?, to request: inout ByteBuffer) -> Bool {
        guard let value else { return true }
        request.writeStaticString(name)
        request.writeString(value)
        request.writeStaticString("\r\n")
        return value.utf8.allSatisfy { (0x20...0x7E).contains($0) }
    }
}
