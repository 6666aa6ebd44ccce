import AsyncHTTPClient
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// Watches one request: how far it got, and what came back, within bounds.
///
/// The callbacks come on the request's event loop; the failure is asked for afterwards, perhaps elsewhere.
final class SubmissionWitness: HTTPClientResponseDelegate {
    typealias Response = SubmissionSighting

    /// An answer of this API has some hundred bytes.
    static let longestBody = 64 * 1024

    private struct Seen {
        /// From the moment in which the first byte may have reached the kernel.
        var mayBeWritten = false
        var head: HTTPResponseHead?
        var body: [UInt8] = []
        var isTooLong = false
    }

    private struct BodyTooLong: Error {}

    private let seen = NIOLockedValueBox(Seen())

    func didSendRequestHead(task: HTTPClient.Task<Response>, _ head: HTTPRequestHead) {
        seen.withLockedValue { $0.mayBeWritten = true }
    }

    func didReceiveHead(task: HTTPClient.Task<Response>, _ head: HTTPResponseHead) -> EventLoopFuture<Void> {
        seen.withLockedValue { $0.head = head }
        return task.eventLoop.makeSucceededVoidFuture()
    }

    func didReceiveBodyPart(task: HTTPClient.Task<Response>, _ buffer: ByteBuffer) -> EventLoopFuture<Void> {
        let isTooLong = seen.withLockedValue { seen in
            seen.isTooLong = seen.body.count + buffer.readableBytes > Self.longestBody
            if !seen.isTooLong { seen.body.append(contentsOf: buffer.readableBytesView) }
            return seen.isTooLong
        }
        return isTooLong
            ? task.eventLoop.makeFailedFuture(BodyTooLong()) : task.eventLoop.makeSucceededVoidFuture()
    }

    func didFinishRequest(task: HTTPClient.Task<Response>) throws -> SubmissionSighting {
        seen.withLockedValue { seen in
            guard let head = seen.head else { return .failed(.connectionEnded) }
            return .answered(Self.answer(head, seen.isTooLong ? .tooLong : .complete(seen.body)))
        }
    }

    /// What was seen of a request that failed.
    func sighting(after error: any Error) -> SubmissionSighting {
        seen.withLockedValue { seen in
            if let head = seen.head { return .answered(Self.answer(head, seen.isTooLong ? .tooLong : .cut)) }
            return .failed(seen.mayBeWritten ? Self.late(error) : Self.early(error))
        }
    }

    private static func answer(_ head: HTTPResponseHead, _ body: APIAnswer.Body) -> APIAnswer {
        APIAnswer(
            status: Int(head.status.code),
            retryAfter: head.headers.first(name: "retry-after"),
            date: head.headers.first(name: "date"),
            body: body
        )
    }

    private static func late(_ error: any Error) -> TransportFailure {
        switch error as? HTTPClientError {
        case .deadlineExceeded?, .readTimeout?, .writeTimeout?: .timedOut
        case .cancelled?: .cancelled
        default: .connectionEnded
        }
    }

    private static func early(_ error: any Error) -> TransportFailure {
        switch error {
        case let error as NIOConnectionError where error.dnsAError != nil || error.dnsAAAAError != nil:
            error.connectionErrors.isEmpty ? .nameNotResolved : .notConnected
        case is NIOConnectionError, is ChannelError, is IOError: .notConnected
        case is NIOSSLError, is BoringSSLError, is NIOSSLExtraError: .tls
        case let error as HTTPClientError where error == .tlsHandshakeTimeout: .tls
        case let error as HTTPClientError where error == .connectTimeout: .notConnected
        default: .notWritten
        }
    }
}
