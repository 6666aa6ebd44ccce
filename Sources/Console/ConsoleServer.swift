import NIOCore
import NIOHTTP1
import WebServer

/// Serves the console: who may ask, and with what the answers are sent.
///
/// What they say is `ConsolePages`' part.
package struct ConsoleServer: Sendable {
    /// More than the form of the largest job has.
    private static let longestForm = 4 << 20

    private let options: ConsoleOptions
    private let sessions: Sessions
    private let logins = LoginQueue()
    private let pages: ConsolePages
    private let sampler: QueueSampler

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
        let bounds = HTTPServer.Bounds(longestBody: Self.longestForm)
        let server = HTTPServer(host: options.host, port: options.port, bounds: bounds) { request in
            await answer(request).response
        }
        // Not waited for: it may be on its way to a broker that does not answer.
        let sampling = Task { [sampler] in await sampler.run() }
        defer { sampling.cancel() }
        try await server.run(onListen: onListen)
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
        guard let session = sessions.session(Self.cookie(request)), session.isLoggedIn else {
            // A new browser: without a password it is in at once.
            let session = sessions.begin()
            guard session.isLoggedIn else {
                // A part of a page, which the script asks for: it loads the whole page again.
                guard request.path != "/overview-now" else {
                    return .fault(.forbidden, "Log in.", options)
                }
                return Answer(LoginPage(options: options, session: session, fault: nil).html).with(cookie: session)
            }
            return await pages.page(request.path, query, session).with(cookie: session)
        }
        return await pages.page(request.path, query, session)
    }

    /// All that changes something: only with the token that a form of the same session carries.
    private func post(_ request: HTTPRequest) async -> Answer {
        guard let session = sessions.session(Self.cookie(request)) else {
            return .fault(
                .forbidden,
                "This page is older than the console, or cookies are off. Load it again.",
                options
            )
        }
        guard let body = request.body else { return .fault(.payloadTooLarge, "The form is too large.", options) }
        let form = FormData(String(buffer: body))
        guard let token = form["token"], Sessions.areEqual(token, session.formToken) else {
            return .fault(.forbidden, "This form belongs to another session. Load its page again.", options)
        }
        if request.path == "/login" { return await logIn(form, session) }
        guard session.isLoggedIn else { return .fault(.forbidden, "Log in.", options) }
        if request.path == "/logout" {
            sessions.end(session)
            return .redirect("/")
        }
        return await pages.act(request.path, form, session)
    }

    private func logIn(_ form: FormData, _ session: Sessions.Session) async -> Answer {
        let attempt = form["password"] ?? ""
        guard await logins.check({ [sessions] in sessions.isRight(attempt) }) else {
            let page = LoginPage(options: options, session: session, fault: "That is not the password.")
            return Answer(page.html, status: .forbidden)
        }
        sessions.end(session)
        // A new one: the old session is worth nothing now.
        return Answer.redirect("/").with(cookie: sessions.begin(isLoggedIn: true))
    }

    private static let cookieName = "seedream-console"

    private static func cookie(_ request: HTTPRequest) -> String? {
        for pair in request.headers["Cookie"].flatMap({ $0.split(separator: ";") }) {
            let parts = pair.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, parts[0].drop(while: \.isWhitespace) == cookieName else { continue }
            return String(parts[1])
        }
        return nil
    }

    /// The `Set-Cookie` of a session: for this console only, for no script, and never sent from another site.
    static func setCookie(_ session: Sessions.Session) -> String {
        "\(cookieName)=\(session.id); Path=/; HttpOnly; SameSite=Strict"
    }
}
