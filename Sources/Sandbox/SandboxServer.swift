import EditJob
import FoundationEssentials
import JSON
import NIOCore
import NIOHTTP1
import WebServer

/// A stand-in for the SeeDream V4 Edit API, which checks each request by the API's rules and misbehaves on demand.
package struct SandboxServer: Sendable {
    /// How the stand-in behaves.
    package struct Options: Sendable {
        /// Host name or address to listen on.
        package var host: String
        /// Port to listen on; 0 lets the system choose.
        package var port: Int
        /// The only token that is let in, nil for any.
        package var token: String?
        /// From the acceptance of a job to its images.
        package var generation: Duration = .seconds(5)
        /// The time before each answer.
        package var latency: Duration = .milliseconds(200)
        package var faults: FaultMix
        /// The `Retry-After` of each 429 and 503, nil for none.
        package var retryAfter: Duration?

        /// A stand-in at an address.
        package init(host: String, port: Int, faults: FaultMix) {
            self.host = host
            self.port = port
            self.faults = faults
        }
    }

    static let path = "/v1/generate/k/seedream-v4-edit"
    static let tasksPath = "/v1/tasks/"
    /// More than any job that the API's rules allow.
    private static let longestBody = 1 << 20

    private let options: Options
    private let statistics = SandboxStatistics()
    private let tasks: SandboxTasks

    /// A stand-in that does not listen yet.
    package init(_ options: Options) {
        self.options = options
        tasks = SandboxTasks(generation: options.generation)
    }

    /// Listens until the task is cancelled; `onListen` hears the port.
    package func run(onListen: @escaping @Sendable (Int) async -> Void) async throws {
        var bounds = HTTPServer.Bounds(longestBody: Self.longestBody)
        // One for each job in flight, of as many workers as are tried out together.
        bounds.connections = 10_000
        let server = HTTPServer(host: options.host, port: options.port, bounds: bounds) { request in
            await answer(request)
        }
        try await server.run(onListen: onListen)
    }

    private func answer(_ request: HTTPRequest) async -> HTTPResponse? {
        switch (request.method, request.path) {
        case (.GET, "/livez"): HTTPResponse(type: "text/plain", "ok\n".utf8)
        case (.GET, "/stats"): Self.response(.ok, statistics.json)
        case (.POST, Self.path): await submission(request)
        case (.GET, let path) where path.hasPrefix(Self.tasksPath):
            look(request, String(path.dropFirst(Self.tasksPath.count)))
        case (.GET, let path) where path.hasPrefix("/images/"): image(String(path.dropFirst("/images/".count)))
        default:
            Self.error(404, "there is only POST \(Self.path), GET \(Self.tasksPath)ID, GET /images/… and GET /stats")
        }
    }

    private func look(_ request: HTTPRequest, _ id: String) -> HTTPResponse {
        statistics.looked()
        guard isAuthorized(request) else { return Self.error(401, "invalid token") }
        let base = "http://\(request.host ?? "\(options.host):\(options.port)")"
        guard let status = tasks.status(of: id, base: base) else { return Self.error(404, "there is no such task") }
        return Self.response(.ok, status)
    }

    /// `ID-NUMBER.png`.
    private func image(_ name: String) -> HTTPResponse {
        let parts = name.dropLast(4).split(separator: "-")
        guard name.hasSuffix(".png"), let number = parts.last.flatMap({ Int($0) }) else {
            return Self.error(404, "there is no such image")
        }
        let id = parts.dropLast().joined(separator: "-")
        guard tasks.hasImage(number, of: id) else { return Self.error(404, "there is no such image") }
        var response = HTTPResponse(type: "image/png", SandboxImage.png(taskID: id, number: number))
        // A console on the same host asks for images without its cookie, and shows those that say that anybody may have them.
        response.headers.add(name: "Access-Control-Allow-Origin", value: "*")
        return response
    }

    private func isAuthorized(_ request: HTTPRequest) -> Bool {
        let authorization = request.headers.first(name: "Authorization") ?? ""
        return authorization.hasPrefix("Bearer ") && authorization.count > 7
            && options.token.map { authorization == "Bearer \($0)" } ?? true
    }

    private func submission(_ request: HTTPRequest) async -> HTTPResponse? {
        statistics.began()
        try? await Task.sleep(for: options.latency)
        let response = await judge(request)
        statistics.ended(status: response.map { Int($0.status.code) })
        return response
    }

    /// Nil if no answer is to be sent.
    private func judge(_ request: HTTPRequest) async -> HTTPResponse? {
        guard let body = request.body else {
            return Self.error(413, "the body is longer than \(Self.longestBody) bytes")
        }
        if let refusal = refusal(of: request, body) { return refusal }
        let key = request.headers.first(name: "Idempotency-Key")
        switch options.faults.fault(roll: .random(in: 0..<100)) {
        case nil: return accept(key, body, .completes)
        case .taskFailed: return accept(key, body, .fails)
        case .taskLost: return accept(key, body, .isLost)
        case .taskStuck: return accept(key, body, .isStuck)
        case .status(let code):
            var response = Self.error(code, "a fault was asked for")
            if code == 429 || code == 503, let wait = options.retryAfter {
                response.headers.add(name: "Retry-After", value: "\(max(1, wait.components.seconds))")
            }
            return response
        case .reset:
            statistics.accepted(key: key)
            return nil
        case .hang:
            statistics.accepted(key: key)
            // Longer than any client waits.
            try? await Task.sleep(for: .seconds(600))
            return nil
        case .garbage:
            statistics.accepted(key: key)
            return HTTPResponse(type: "text/html", "<html><body>It works!</body></html>".utf8)
        case .noTaskID:
            statistics.accepted(key: key)
            return Self.response(.ok, .object([JSONMember("status", .string("ok"))]))
        case .envelope401:
            return Self.response(
                .ok,
                .object([JSONMember("code", .integer(401)), JSONMember("msg", .string("unauthorized"))])
            )
        }
    }

    private func accept(_ key: String?, _ body: ByteBuffer, _ fate: SandboxTasks.Fate) -> HTTPResponse {
        statistics.accepted(key: key)
        let id = UUID().uuidString.lowercased()
        let images = (try? EditJob(parsing: body.readableBytesView))?.maxImages ?? 1
        tasks.accept(id, images: Int(min(max(1, images), 6)), fate)
        return Self.response(.ok, .object([JSONMember("task_id", .string(id))]))
    }

    /// What the real API would say to a request that breaks its rules.
    private func refusal(of request: HTTPRequest, _ body: ByteBuffer) -> HTTPResponse? {
        guard isAuthorized(request) else { return Self.error(401, "invalid token") }
        guard request.headers.first(name: "Content-Type")?.hasPrefix("application/json") == true else {
            return Self.error(415, "the content type must be application/json")
        }
        do {
            _ = try EditJob(parsing: body.readableBytesView)
            return nil
        } catch {
            return Self.error(422, JobFailure(error).message)
        }
    }

    private static func error(_ code: Int, _ message: String) -> HTTPResponse {
        response(
            .init(statusCode: code),
            .object([JSONMember("error_code", .integer(Int64(code))), JSONMember("error_msg", .string(message))])
        )
    }

    private static func response(_ status: HTTPResponseStatus, _ json: JSONValue) -> HTTPResponse {
        HTTPResponse(status, type: "application/json", json.encoded())
    }
}
