import NIOCore
import NIOHTTP1
import WebServer

/// What the console sends.
struct Answer: Sendable {
    var status: HTTPResponseStatus
    var headers: HTTPHeaders = [:]
    private let type: String
    private let body: HTTPResponse.Body
    /// Where the page's images may come from.
    private var imageOrigins: Set<String> = []

    init(_ html: HTML, status: HTTPResponseStatus = .ok, imageOrigins: Set<String> = []) {
        self.init(status, type: "text/html; charset=utf-8", .bytes(ByteBuffer(string: html.text)))
        self.imageOrigins = imageOrigins
    }

    private init(_ status: HTTPResponseStatus = .ok, type: String, _ body: HTTPResponse.Body) {
        self.status = status
        self.type = type
        self.body = body
    }

    static func asset(_ type: String, _ text: String) -> Answer {
        Answer(type: type, .bytes(ByteBuffer(string: text)))
    }

    /// Lines of NDJSON for a file.
    static func download(_ name: String, _ pieces: AsyncThrowingStream<ByteBuffer, any Error>) -> Answer {
        var answer = Answer(type: "application/x-ndjson", .pieces(pieces))
        answer.headers.add(name: "Content-Disposition", value: "attachment; filename=\"\(name)\"")
        return answer
    }

    /// To another page, which is got and not posted to.
    static func redirect(_ path: String) -> Answer {
        var answer = Answer(HTML.empty, status: .seeOther)
        answer.headers.add(name: "Location", value: path)
        return answer
    }

    /// A page that says what is wrong.
    static func fault(_ status: HTTPResponseStatus, _ words: String, _ options: ConsoleOptions) -> Answer {
        let body: HTML = """
            <main id="main"><h1>\(status.reasonPhrase)</h1>\(Layout.fault(words))
            <p><a href="/">To the overview</a></p></main>
            """
        return Answer(Layout.shell(status.reasonPhrase, queue: options.queueName, body), status: status)
    }

    func with(cookie: String) -> Answer {
        var answer = self
        answer.headers.add(name: "Set-Cookie", value: cookie)
        return answer
    }

    /// With the headers that every answer has.
    var response: HTTPResponse {
        let origins = imageOrigins.sorted().map { " \($0)" }.joined()
        let policy =
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'\(origins); "
            + "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        var response = HTTPResponse(status, type: type, body)
        response.headers.add(contentsOf: headers)
        for (name, value) in [
            ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Content-Security-Policy", policy),
            ("X-Frame-Options", "DENY"), ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Resource-Policy", "same-origin"),
        ] {
            response.headers.add(name: name, value: value)
        }
        return response
    }
}
