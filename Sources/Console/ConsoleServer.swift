import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import WebServer

/// Serves the console: who may ask, and with what the answers are sent.
///
/// What they say is `ConsolePages`' part.
package struct ConsoleServer: Sendable {
    /// More than the form of the largest job has.
    private static let longestForm = 8 << 20
    private static let longestLogin = 4096

    private let options: ConsoleOptions
    private let sessions: Sessions
    private let logins = LoginQueue()
    private let pages: ConsolePages
    private let sampler: QueueSampler
    /// The port that it listens on, in the name of its cookie: browsers send a cookie to all ports of a host.
    private let port = NIOLockedValueBox(0)

    /// A console that does not listen yet.
    package init(_ options: ConsoleOptions) {
        self.options = options
        sessions = Sessions(password: options.password)
        sampler = QueueSampler(options)
        pages = ConsolePages(options, sampler: sampler, sessions: sessions)
    }

    /// Listens until its task is cancelled; `onListen` hears the port.
    ///
    /// Throws `HTTPServer.CannotListen`.
    package func run(onListen: @escaping @Sendable (Int) async -> Void) async throws {
        var bounds = HTTPServer.Bounds(longestBody: Self.longestForm)
        // Of a stranger no more is read than a login has.
        bounds.longestBodyOf = { [sessions, port] head in
            let cookie = Self.cookie(head.headers, port.withLockedValue { $0 })
            return sessions.session(cookie)?.isLoggedIn == true ? Self.longestForm : Self.longestLogin
        }
        let server = HTTPServer(host: options.host, port: options.port, bounds: bounds) { request in
            await answer(request).response
        }
        // Not waited for: it may be on its way to a broker that does not answer.
        let sampling = Task { [sampler] in await sampler.run() }
        defer { sampling.cancel() }
        try await server.run { [port] listening in
            port.withLockedValue { $0 = listening }
            await onListen(listening)
        }
    }

    private func answer(_ request: HTTPRequest) async -> Answer {
        if request.method == .GET, request.path == "/livez" { return .asset("text/plain; charset=utf-8", "ok\n") }
        // A page elsewhere must not reach a console without a password by a name that leads here (DNS rebinding).
        guard options.password != nil || isOwnName(request.host ?? "") else {
            return .fault(
                .misdirectedRequest,
                "The console is reached by another name. Use 127.0.0.1 or localhost.",
                options
            )
        }
        switch (request.method, request.path) {
        case (.GET, "/style.css"): return .asset("text/css; charset=utf-8", Assets.style)
        case (.GET, "/script.js"): return .asset("text/javascript; charset=utf-8", Assets.script)
        case (.GET, "/icon.svg"): return .asset("image/svg+xml", Assets.icon)
        case (.GET, _): return await get(request)
        // Goes on to its end, also if the requester has left.
        case (.POST, _): return await Task { await post(request) }.value
        default: return .fault(.methodNotAllowed, "The console knows GET and POST.", options)
        }
    }

    private func isOwnName(_ authority: String) -> Bool {
        let host =
            authority.hasPrefix("[") ? authority.prefix { $0 != "]" }.dropFirst() : authority.prefix { $0 != ":" }
        return host == options.host || ConsoleOptions.isLoopback(String(host))
    }

    private func get(_ request: HTTPRequest) async -> Answer {
        let query = FormData(request.query ?? "")
        let known = session(of: request)
        guard let session = known, session.isLoggedIn else {
            // A new browser: without a password it is in at once. One that has a session goes on with it.
            let session = known ?? sessions.begin()
            guard session.isLoggedIn else {
                // A part of a page, which the script asks for: it loads the whole page again.
                guard request.path != "/overview-now" else {
                    return .fault(.forbidden, "Log in.", options)
                }
                let target = Self.localTarget(request.query.map { "\(request.path)?\($0)" } ?? request.path)
                return with(cookie: session, Answer(LoginPage(options: options, session: session, target: target).html))
            }
            return with(cookie: session, await pages.page(request.path, query, session, host: request.host))
        }
        return await pages.page(request.path, query, session, host: request.host)
    }

    private func session(of request: HTTPRequest) -> Sessions.Session? {
        sessions.session(Self.cookie(request.headers, port.withLockedValue { $0 }))
    }

    /// All that changes something: only with the token that a form of the same session carries.
    private func post(_ request: HTTPRequest) async -> Answer {
        guard let session = session(of: request) else {
            return .fault(
                .forbidden,
                "This page is older than the console, or cookies are off. Load it again.",
                options
            )
        }
        // Of a stranger nothing is parsed but a login.
        guard session.isLoggedIn || request.path == "/login" else { return .fault(.forbidden, "Log in.", options) }
        guard let body = request.body else { return .fault(.payloadTooLarge, "The form is too large.", options) }
        let form = FormData(String(buffer: body))
        guard let token = form["token"], Sessions.areEqual(token, session.formToken) else {
            return .fault(.forbidden, "This form belongs to another session. Load its page again.", options)
        }
        if request.path == "/login" { return await logIn(form, session) }
        if request.path == "/logout" {
            sessions.end(session)
            return .redirect("/")
        }
        return await pages.act(request.path, form, session)
    }

    private func logIn(_ form: FormData, _ session: Sessions.Session) async -> Answer {
        let attempt = form["password"] ?? ""
        guard await logins.check({ [sessions] in sessions.isRight(attempt) }) else {
            let fault = "That is not the password."
            let target = Self.localTarget(form["to"])
            let page = LoginPage(options: options, session: session, target: target, fault: fault)
            return Answer(page.html, status: .forbidden)
        }
        sessions.end(session)
        // A new one: the old session is worth nothing now.
        return with(cookie: sessions.begin(isLoggedIn: true), .redirect(Self.localTarget(form["to"])))
    }

    /// Where a login goes on: a page of this console, and nothing that a browser reads as another server.
    static func localTarget(_ text: String?) -> String {
        guard let text, text.hasPrefix("/"), !text.hasPrefix("//"), text.utf8.count <= 1000,
            text.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "\\") })
        else { return "/" }
        return text
    }

    private static func cookieName(_ port: Int) -> String { "seedream-console-\(port)" }

    private static func cookie(_ headers: HTTPHeaders, _ port: Int) -> String? {
        for pair in headers["Cookie"].flatMap({ $0.split(separator: ";") }) {
            let parts = pair.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, parts[0].drop(while: \.isWhitespace) == cookieName(port) else { continue }
            return String(parts[1])
        }
        return nil
    }

    /// For this console only, for no script, and from other sites only with a link that a person follows.
    private func with(cookie session: Sessions.Session, _ answer: Answer) -> Answer {
        let name = Self.cookieName(port.withLockedValue { $0 })
        return answer.with(cookie: "\(name)=\(session.id); Path=/; HttpOnly; SameSite=Lax")
    }
}
