import JSON
import NIOCore
import NIOHTTP1
import NIOPosix

/// One request and what comes back of it, within bounds: how far it got decides what its failure means.
///
/// Lives on the loop of its connection.
final class SubmissionExchange {
    /// An answer of this API has some hundred bytes.
    static let longestBody = 64 * 1024

    /// The request as it goes over the wire, until it goes.
    private var request: ByteBuffer
    /// When it is given up.
    private(set) var deadline: NIODeadline
    /// Who waits for the end; told once.
    var answer: ((SubmissionResult) -> Void)? {
        didSet { if let end { answer?(end) } }
    }
    /// Told as soon as there is a connection, which is then kept for the request: see `Reservation`.
    var onConnected: (() -> Void)?
    /// The connection that it was given to.
    weak var connection: HTTPConnection?

    /// The most bytes of a body that are read.
    let limit: Int
    private var mayBeWritten = false
    private var head: Head?
    private var seen: [UInt8] = []
    private var end: SubmissionResult?

    init(_ request: ByteBuffer, deadline: NIODeadline, longestBody: Int = longestBody) {
        self.request = request
        self.deadline = deadline
        limit = longestBody
    }

    /// Whether it has its end.
    var isDone: Bool { end != nil }

    /// Gives the request to an exchange that has waited for its connection; its time begins now.
    func prepare(_ request: ByteBuffer, deadline: NIODeadline) {
        onConnected = nil
        self.request = request
        self.deadline = deadline
    }

    /// Gives the request, which is about to be written; it is not kept beside.
    func start(on connection: HTTPConnection) -> ByteBuffer {
        self.connection = connection
        mayBeWritten = true
        defer { request = ByteBuffer() }
        return request
    }

    /// What the outcome table asks of an answer's head.
    private struct Head {
        let status: Int
        let retryAfter: String?
        let date: String?
    }

    /// A status line and fields have come.
    func receive(_ head: HTTPResponseHead) {
        self.head = Head(
            status: Int(head.status.code),
            retryAfter: head.headers.first(name: "retry-after"),
            date: head.headers.first(name: "date")
        )
    }

    /// A part of the body has come; false if the answer is too long, which ends the exchange.
    func receive(_ part: ByteBuffer) -> Bool {
        guard seen.count + part.readableBytes <= limit else {
            end(answered(.tooLong))
            return false
        }
        seen.append(contentsOf: part.readableBytesView)
        return true
    }

    /// The answer is complete.
    func complete() {
        end(answered(.complete(seen)))
    }

    /// The answer ended with its connection, and nothing vouches that this was its end, as a TLS close without
    /// close_notify (RFC 8446 §6.1): JSON that is whole does.
    func completeByUncleanEnd() {
        end(answered((try? JSONValue(parsing: seen)) == nil ? .cut : .complete(seen)))
    }

    /// No more will come, for that reason.
    func fail(_ reason: TransportFailure) {
        guard head == nil else { return end(answered(.cut)) }
        // Before its first byte all failures are alike: it was not sent.
        let isEarly: Bool =
            switch reason {
            case .timedOut, .connectionEnded, .cancelled: true
            case .nameNotResolved, .notConnected, .outOfFiles, .proxy, .tls, .notWritten: false
            }
        end(.failed(!mayBeWritten && isEarly ? .notWritten : reason))
    }

    private func answered(_ body: APIAnswer.Body) -> SubmissionResult {
        var answer = APIAnswer(
            status: head?.status ?? 0,
            retryAfter: head?.retryAfter,
            date: head?.date,
            body: body
        )
        if case .complete = body {} else { answer.fragment = Array(seen.prefix(4096)) }
        return .answered(answer)
    }

    private func end(_ result: SubmissionResult) {
        guard end == nil else { return }
        end = result
        answer?(result)
    }
}
