import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

/// A console, and a browser without eyes: it keeps cookies, follows nothing, and reads the forms of a page.
final class ConsoleFixture: Sendable {
    struct Page {
        let status: Int
        let headers: [String: String]
        let text: String

        /// The value of a hidden field, or of a ticked one.
        func field(_ name: String) -> String? { fields(name).first }

        func fields(_ name: String) -> [String] {
            text.matches(of: /<input[^>]*name="([^"]*)"[^>]*value="([^"]*)"/).filter { $0.1 == name[...] }
                .map { String($0.2) }
        }
    }

    let program: Program
    let base: String
    private let jar: String
    /// Whether the program ends with this fixture.
    private let isOwner: Bool

    /// Starts a console for the queues of a service.
    init(_ service: ServiceFixture, _ arguments: [String] = []) async throws {
        program = try Program(
            ["console", "--listen", "127.0.0.1:0"] + arguments,
            environment: service.environment(["SEEDREAM_HTTP_LISTEN": "off"])
        )
        try await program.waitForStderr("console: http")
        let line = program.stderr.split(separator: "\n").first { $0.hasPrefix("console: http") } ?? ""
        base = String(line.split(separator: " ")[1].dropLast())
        jar = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
        isOwner = true
    }

    /// Another person at the same console.
    init(beside other: ConsoleFixture) {
        program = other.program
        base = other.base
        jar = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
        isOwner = false
    }

    deinit {
        if isOwner { program.signal(SIGKILL) }
        try? FileManager.default.removeItem(atPath: jar)
    }

    func get(_ path: String, _ arguments: [String] = []) async throws -> Page {
        try await ask(arguments + ["\(base)\(path)"])
    }

    /// Posts a form; its fields may stand several times.
    func post(_ path: String, _ fields: [(String, String)], _ arguments: [String] = []) async throws -> Page {
        let data = fields.flatMap { ["--data-urlencode", "\($0)=\($1)"] }
        return try await ask(arguments + (data.isEmpty ? ["-X", "POST"] : data) + ["\(base)\(path)"])
    }

    /// The form token of this browser's session.
    func token() async throws -> String { try #require(try await get("/").field("token")) }

    private func ask(_ arguments: [String]) async throws -> Page {
        let outcome = try await Program.run(
            ["-s", "-i", "--max-time", "60", "-b", jar, "-c", jar] + arguments,
            executable: "/usr/bin/curl"
        )
        let parts = outcome.stdout.split(separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false)
        let lines = (parts.first ?? "").split(separator: "\r\n")
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let pair = line.split(separator: ":", maxSplits: 1)
            if pair.count == 2 { headers[pair[0].lowercased()] = pair[1].trimmingCharacters(in: .whitespaces) }
        }
        let status = lines.first?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return Page(status: status, headers: headers, text: parts.count > 1 ? String(parts[1]) : "")
    }

    /// Publishes dead letters as a worker does.
    static func fill(_ queue: String, _ count: Int, _ service: ServiceFixture, code: String = "api_rejected")
        async throws
    {
        try await service.publish(Array(repeating: ServiceFixture.job("make it green"), count: count), to: queue) {
            index,
            properties in
            properties.messageID = .init("letter-\(index)")
            properties.headers = [
                "x-error-code": .string(.init(code)), "x-error-message": .string("The API said no."),
                "x-error-charged": .string(queue.hasSuffix("unknown") ? "maybe" : "no"), "x-attempts": .int32(1),
                "x-failed-at": .string(.init("2026-01-31T08:00:\(index % 60 < 10 ? "0" : "")\(index % 60).000Z")),
                "x-job-id": .string(.init("letter-\(index)")),
            ]
        }
    }
}
