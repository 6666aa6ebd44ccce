import HTTPTypes
import HummingbirdCore
import NIOCore

/// What the console sends.
struct Answer: Sendable {
    private enum Body: Sendable {
        case text(String)
        /// Written piece by piece: an export may be larger than memory.
        case pieces(AsyncThrowingStream<ByteBuffer, any Error>)
    }

    var status = HTTPResponse.Status.ok
    var headers: HTTPFields = [:]
    private var body = Body.text("")
    /// Where the page's images may come from.
    private var imageOrigins: Set<String> = []

    init(_ html: HTML, status: HTTPResponse.Status = .ok, imageOrigins: Set<String> = []) {
        self.status = status
        self.imageOrigins = imageOrigins
        body = .text(html.text)
        headers[.contentType] = "text/html; charset=utf-8"
    }

    private init(type: String, _ body: Body) {
        headers[.contentType] = type
        self.body = body
    }

    static func asset(_ type: String, _ text: String) -> Answer { Answer(type: type, .text(text)) }

    /// Lines of NDJSON for a file.
    static func download(_ name: String, _ pieces: AsyncThrowingStream<ByteBuffer, any Error>) -> Answer {
        var answer = Answer(type: "application/x-ndjson", .pieces(pieces))
        answer.headers[.contentDisposition] = "attachment; filename=\"\(name)\""
        return answer
    }

    /// To another page, which is got and not posted to.
    static func redirect(_ path: String) -> Answer {
        var answer = Answer(HTML.empty, status: .seeOther)
        answer.headers[.location] = path
        return answer
    }

    /// A page that says what is wrong.
    static func fault(_ status: HTTPResponse.Status, _ words: String, _ options: ConsoleOptions) -> Answer {
        let body: HTML = """
            <main id="main"><h1>\(status.reasonPhrase)</h1>\(Layout.fault(words))
            <p><a href="/">To the overview</a></p></main>
            """
        return Answer(Layout.shell(status.reasonPhrase, queue: options.queueName, body), status: status)
    }

    func with(cookie session: Sessions.Session) -> Answer {
        var answer = self
        answer.headers[.setCookie] = ConsoleServer.setCookie(session)
        return answer
    }

    /// With the headers that every answer has.
    var response: Response {
        var headers = headers
        headers[.cacheControl] = "no-store"
        headers[.xContentTypeOptions] = "nosniff"
        let origins = imageOrigins.sorted().map { " \($0)" }.joined()
        headers[.contentSecurityPolicy] =
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'\(origins); "
            + "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        for (name, value) in [
            ("X-Frame-Options", "DENY"), ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ] {
            if let name = HTTPField.Name(name) { headers[name] = value }
        }
        let content: ResponseBody =
            switch body {
            case .text(let text): .init(byteBuffer: ByteBuffer(string: text))
            case .pieces(let pieces): .init(asyncSequence: pieces)
            }
        return Response(status: status, headers: headers, body: content)
    }
}
