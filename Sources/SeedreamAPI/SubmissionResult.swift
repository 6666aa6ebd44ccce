/// What was seen of one submission: all that the outcome table knows.
package enum SubmissionResult: Hashable, Sendable {
    /// A status line came.
    case answered(APIAnswer)
    case failed(TransportFailure)

    /// The status, where an answer came.
    package var status: Int? {
        guard case .answered(let answer) = self else { return nil }
        return answer.status
    }
}

package struct APIAnswer: Hashable, Sendable {
    /// What came of the body.
    package enum Body: Hashable, Sendable {
        case complete([UInt8])
        /// More than an answer of this API can be; the rest was not read.
        case tooLong
        /// The connection or the time ended within it.
        case cut
    }

    package var status: Int
    /// The `Retry-After` field as it came.
    package var retryAfter: String?
    /// The `Date` field as it came.
    package var date: String?
    /// What came of the body.
    package var body: Body
    /// The first bytes of a body that did not come whole: evidence, and nothing else.
    package var fragment: [UInt8] = []

    package init(status: Int, retryAfter: String? = nil, date: String? = nil, body: Body) {
        self.status = status
        self.retryAfter = retryAfter
        self.date = date
        self.body = body
    }
}

/// Why no status line came.
package enum TransportFailure: Error, Hashable, Sendable {
    /// The host name has no address. Nothing was sent.
    case nameNotResolved
    /// No connection. Nothing was sent.
    case notConnected
    /// No connection, because this process may open no more files. Nothing was sent.
    case outOfFiles
    /// The proxy opened no tunnel, and why. Nothing was sent.
    case proxy(String)
    /// The TLS handshake failed or the certificate was refused. Nothing was sent.
    case tls
    /// It failed before anything of the request was written.
    case notWritten
    /// The time was over when the request was, or may have been, written.
    case timedOut
    /// The connection ended when the request was, or may have been, written.
    case connectionEnded
    /// We gave up waiting when the request was, or may have been, written.
    case cancelled
}
