import Foundation
package import JSON

/// Chromium without a screen, driven over WebDriver by `chromedriver`.
///
/// Source: W3C's "WebDriver", and Chromium's own commands for logs and the DevTools protocol.
package final class Browser: Sendable {
    private let driver: Program
    private let session: String

    /// Starts a browser; without scripts no page's script runs.
    package init(scripts: Bool = true) async throws {
        let port = try PrivateBroker.freePort()
        // Without this the driver looks for a home that a test has not got.
        let home = FileManager.default.temporaryDirectory.path
        driver = try Program(["--port=\(port)"], environment: ["HOME": home], executable: "/usr/bin/chromedriver")
        let base = "http://127.0.0.1:\(port)/session"
        let preferences = scripts ? "{}" : #"{"profile.managed_default_content_settings.javascript":2}"#
        let options = """
            {"capabilities":{"alwaysMatch":{"browserName":"chrome","goog:loggingPrefs":{"browser":"ALL","performance":"ALL"},
            "goog:chromeOptions":{"args":["--headless=new","--no-sandbox","--disable-gpu","--disable-dev-shm-usage",
            "--hide-scrollbars","--disable-component-update","--disable-background-networking","--no-first-run"],
            "prefs":\(preferences)}}}}
            """
        let driver = driver
        try await eventually("chromedriver") {
            (try? await Self.ask("http://127.0.0.1:\(port)/status"))?["ready"] == .boolean(true)
        }
        do {
            let answer = try await Self.ask(base, options)
            guard let id = answer["sessionId"]?.text else { throw DeadlinePassed(description: "no session: \(answer)") }
            session = "\(base)/\(id)"
        } catch {
            driver.signal(SIGKILL)
            throw error
        }
    }

    /// Ends the browser and its driver.
    package func close() async {
        _ = try? await Program.run(["-s", "-X", "DELETE", session], executable: "/usr/bin/curl")
        // It has inherited a mask that holds SIGTERM back.
        driver.signal(SIGKILL)
    }

    private static func ask(_ url: String, _ body: String? = nil) async throws -> JSONValue {
        let data = body == nil ? [] : ["-H", "Content-Type: application/json", "--data-binary", "@-"]
        let outcome = try await Program.run(
            ["-s", "--max-time", "60"] + data + [url],
            stdin: body ?? "",
            executable: "/usr/bin/curl"
        )
        let value = try JSONValue(parsing: outcome.stdout.utf8)["value"] ?? .null
        if let fault = value["error"]?.text {
            throw DeadlinePassed(description: "\(fault): \(value["message"]?.text?.prefix(300) ?? "")")
        }
        return value
    }

    private func command(_ path: String, _ members: [JSONMember]) async throws -> JSONValue {
        try await Self.ask("\(session)/\(path)", String(decoding: JSONValue.object(members).encoded(), as: UTF8.self))
    }

    private func protocolCommand(_ name: String, _ parameters: JSONValue) async throws {
        _ = try await command(
            "goog/cdp/execute",
            [JSONMember("cmd", .string(name)), JSONMember("params", parameters)]
        )
    }

    /// Shows pages as on a screen of that width, in light or dark.
    package func show(width: Int, isDark: Bool) async throws {
        try await protocolCommand(
            "Emulation.setDeviceMetricsOverride",
            .object([
                JSONMember("width", .integer(Int64(width))), JSONMember("height", .integer(1000)),
                JSONMember("deviceScaleFactor", .integer(1)), JSONMember("mobile", .boolean(width < 600)),
            ])
        )
        let scheme = JSONValue.object([
            JSONMember("name", .string("prefers-color-scheme")),
            JSONMember("value", .string(isDark ? "dark" : "light")),
        ])
        try await protocolCommand("Emulation.setEmulatedMedia", .object([JSONMember("features", .array([scheme]))]))
    }

    package func open(_ url: String) async throws {
        _ = try await command("url", [JSONMember("url", .string(url))])
    }

    package var source: String {
        get async throws { try await Self.ask("\(session)/source").text ?? "" }
    }

    package var address: String {
        get async throws { try await Self.ask("\(session)/url").text ?? "" }
    }

    private func element(_ selector: String) async throws -> String {
        let found = try await command(
            "element",
            [JSONMember("using", .string("css selector")), JSONMember("value", .string(selector))]
        )
        guard case .object(let members) = found, let id = members.first?.value.text else {
            throw DeadlinePassed(description: "nothing matches \(selector)")
        }
        return id
    }

    /// Clicks what a CSS selector finds first.
    package func click(_ selector: String) async throws {
        _ = try await command("element/\(element(selector))/click", [])
    }

    /// Types into what a CSS selector finds first, instead of what is there.
    package func type(_ text: String, into selector: String) async throws {
        let element = try await element(selector)
        _ = try await command("element/\(element)/clear", [])
        _ = try await command("element/\(element)/value", [JSONMember("text", .string(text))])
    }

    /// Presses keys where the focus is.
    package func press(_ keys: String) async throws {
        let element = try await Self.ask("\(session)/element/active")
        guard case .object(let members) = element, let id = members.first?.value.text else { return }
        _ = try await command("element/\(id)/value", [JSONMember("text", .string(keys))])
    }

    /// What a script's body returns; it may return a promise.
    package func run(_ script: String) async throws -> JSONValue {
        try await command("execute/sync", [JSONMember("script", .string(script)), JSONMember("args", .array([]))])
    }

    /// What the browser's console has said since the last question.
    package func complaints() async throws -> [String] {
        try await command("se/log", [JSONMember("type", .string("browser"))]).elements
            .compactMap { $0["message"]?.text }
    }

    /// The addresses that were asked for since the last question.
    package func requests() async throws -> [String] {
        try await command("se/log", [JSONMember("type", .string("performance"))]).elements
            .compactMap { entry in
                guard let message = try? JSONValue(parsing: (entry["message"]?.text ?? "").utf8)["message"],
                    message["method"]?.text == "Network.requestWillBeSent"
                else { return nil }
                return message["params"]?["request"]?["url"]?.text
            }
    }

    /// The whole page as a PNG, where `SEEDREAM_TEST_SCREENSHOTS` names a directory for them.
    package func keepScreenshot(_ name: String) async throws {
        guard let directory = ProcessInfo.processInfo.environment["SEEDREAM_TEST_SCREENSHOTS"] else { return }
        let answer = try await command(
            "goog/cdp/execute",
            [
                JSONMember("cmd", .string("Page.captureScreenshot")),
                JSONMember("params", .object([JSONMember("captureBeyondViewport", .boolean(true))])),
            ]
        )
        guard let data = answer["data"]?.text.flatMap({ Data(base64Encoded: $0) }) else { return }
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try data.write(to: URL(fileURLWithPath: "\(directory)/\(name).png"))
    }
}

extension JSONValue {
    /// The elements of an array, none of anything else.
    package var elements: [JSONValue] {
        guard case .array(let elements) = self else { return [] }
        return elements
    }
}
