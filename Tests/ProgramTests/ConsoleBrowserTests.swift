import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// The console in a real browser: with and without scripts, on a phone and a journal, by day and by night.
    @Suite(.machine, .timeLimit(.minutes(10)))
    struct ConsoleBrowserTests {
        private static let pages = [
            ("overview", "/"), ("letters", "/dead-letters"), ("unknown", "/unknown"),
            ("empty", "/dead-letters?code=none"),
            ("history", "/history"), ("job", "/job?id=letter-1"), ("followed", "/job?id=followed"),
            ("replay", "/act?act=replay&queue=unknown"), ("discard", "/act?act=discard&queue=dlq"),
            ("missing", "/nowhere"),
        ]

        /// A console over some of everything: letters of both kinds, a job that is accepted and one that is followed.
        private static func with(
            _ arguments: [String] = [],
            _ body: (ServiceFixture, ConsoleFixture) async throws -> Void
        ) async throws {
            let sandbox = ["--latency", "0ms", "--generation", "100ms"]
            try await ServiceFixture.with(sandbox: sandbox) { service in
                _ = try await service.startWorker([
                    "SEEDREAM_FOLLOW_DELAYS": "200ms", "SEEDREAM_FLEET_RATE_LIMIT": "1000/10s",
                    "SEEDREAM_FLEET_BUDGET": "500/24h",
                ])
                let image = "\(service.apiURL)/images/x-1.png"
                let job = #"{"image_urls":["\#(image)"],"prompt":"make it blue","max_images":2}"#
                try await service.publish([job]) { _, properties in
                    properties.messageID = "followed"
                    properties.headers = ["x-follow": .boolean(true)]
                }
                try await ConsoleFixture.fill("jobs.dlq", 4, service)
                try await ConsoleFixture.fill("jobs.unknown", 2, service, code: "outcome_unknown")
                try await service.publish([#"{"prompt":" ","image_urls":[]}"#], to: "jobs.dlq") { _, properties in
                    properties.messageID = "broken"
                    properties.headers = ["x-error-code": .string("invalid_job"), "x-error-charged": .string("no")]
                }
                let console = try await ConsoleFixture(service, arguments)
                try await eventually("the images") {
                    try await console.get("/job?id=followed").text.contains("Its images were ready")
                }
                try await body(service, console)
            }
        }

        private static func correction(_ console: ConsoleFixture) async throws -> String {
            let page = try await console.get("/dead-letters?job=broken")
            return "/correct?queue=dlq&id=broken&mark=\(try #require(page.field("mark")))"
        }

        @Test(.serialized, arguments: [(390, false), (390, true), (1440, false), (1440, true)])
        func `each page is whole, accessible and keeps to itself`(_ width: Int, _ isDark: Bool) async throws {
            let path = try #require(
                ProcessInfo.processInfo.environment["SEEDREAM_TEST_AXE"],
                "deploy/test fetches axe-core"
            )
            let axe = try String(contentsOfFile: path, encoding: .utf8)
            try await Self.with { service, console in
                let browser = try await Browser()
                do {
                    try await browser.show(width: width, isDark: isDark)
                    _ = try await browser.requests()
                    for (name, path) in Self.pages + [("correct", try await Self.correction(console))] {
                        try await browser.open(console.base + path)
                        try await browser.keepScreenshot("\(name)-\(width)-\(isDark ? "dark" : "light")")
                        let overflow = try await browser.run(
                            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
                        )
                        #expect(overflow.exactInteger == 0, "\(name) is wider than \(width)")
                        let found = try await browser.run(
                            axe + """
                                ; return axe.run().then(seen => seen.violations.map(broken => broken.id + ": "
                                  + broken.nodes.map(node => node.html + node.failureSummary).join(" "))
                                  .concat(seen.passes.length > 5 ? [] : ["nothing was looked at"]))
                                """
                        )
                        #expect(found == .array([]), "\(name): \(found.elements.compactMap(\.text))")
                        // A page that is not there has its status in the console, as it should.
                        let complaints = try await browser.complaints().filter { !$0.contains("/nowhere") }
                        // An image that a job names and nobody has is told too; it is not the console's.
                        #expect(
                            complaints.filter { !$0.contains("example.com/a.png") }.isEmpty,
                            "\(name): \(complaints)"
                        )
                    }
                    let elsewhere = try await browser.requests()
                        .filter { url in
                            !url.hasPrefix(console.base) && !url.hasPrefix(service.apiURL + "/images/")
                                && url.hasPrefix("http")
                                && !url.hasPrefix("https://example.com/a.png")
                        }
                    #expect(elsewhere.isEmpty, "\(elsewhere)")
                } catch {
                    await browser.close()
                    throw error
                }
                await browser.close()
            }
        }

        @Test func `no images means none`() async throws {
            try await Self.with(["--no-images"]) { service, console in
                let browser = try await Browser()
                do {
                    _ = try await browser.requests()
                    for path in ["/job?id=letter-1", "/job?id=followed"] { try await browser.open(console.base + path) }
                    let requests = try await browser.requests().filter { $0.hasPrefix("http") }
                    #expect(requests.allSatisfy { $0.hasPrefix(console.base) }, "\(requests)")
                } catch {
                    await browser.close()
                    throw error
                }
                await browser.close()
            }
        }

        @Test(.serialized, arguments: [true, false])
        func `each action works by hand, with scripts and without`(_ scripts: Bool) async throws {
            try await Self.with { service, console in
                let browser = try await Browser(scripts: scripts)
                do {
                    try await browser.show(width: 1440, isDark: false)
                    func says(_ words: String) async throws {
                        try await eventually(words) { try await browser.source.contains(words) }
                    }
                    // Pause and resume.
                    try await browser.open(console.base + "/")
                    try await browser.type("price change", into: "#reason")
                    try await browser.click("form[action='/fleet/pause'] button")
                    try await says("Paused.")
                    try await says("price change")
                    try await browser.click("form[action='/fleet/resume'] button")
                    try await says("Resumed.")
                    // Discard one that was ticked.
                    try await browser.open(console.base + "/dead-letters")
                    try await browser.click("tbody tr:first-child input[type=checkbox]")
                    try await browser.click("button[value=discard]")
                    try await says("Discard one job")
                    try await browser.click("#sure")
                    try await browser.click("button.danger")
                    try await says("1 job discarded.")
                    // Replay what may have been paid for.
                    try await browser.open(console.base + "/unknown")
                    try await browser.click("button[value=replay]")
                    try await says("They may be paid for twice")
                    try await browser.click("#consent")
                    try await browser.click("button.primary")
                    try await says("2 jobs replayed.")
                    // Correct and replay.
                    try await browser.open(console.base + Self.correction(console))
                    try await says("prompt is empty")
                    try await browser.type("https://example.com/a.png", into: "textarea[name='field.image_urls']")
                    try await browser.type("make it yellow", into: "textarea[name='field.prompt']")
                    try await browser.click("button[value=check]")
                    try await says("The job is valid now")
                    try await browser.click("button[value=replay]")
                    try await says("1 job corrected and replayed.")
                    // Find a job; by the keyboard.
                    try await browser.type("followed\u{E007}", into: "#find")
                    try await says("Its images were ready")
                    try await service.waitFor(0, in: "jobs")
                } catch {
                    await browser.close()
                    throw error
                }
                await browser.close()
            }
        }

        @Test func `the overview follows what happens by itself`() async throws {
            try await Self.with { service, console in
                let browser = try await Browser()
                do {
                    try await browser.open(console.base + "/")
                    try await eventually("the letters") { try await browser.source.contains("<strong>5</strong>") }
                    try await ConsoleFixture.fill("jobs.dlq", 20, service)
                    try await eventually("more letters") { try await browser.source.contains("<strong>25</strong>") }
                    // Everything can be reached by the keyboard, from the first key on.
                    try await browser.open(console.base + "/")
                    var reached: Set<String> = []
                    for _ in 0..<14 {
                        try await browser.press("\u{E004}")
                        let focus = try await browser.run(
                            "const e = document.activeElement; return e.textContent.trim() || e.id || e.tagName"
                        )
                        if let text = focus.text { reached.insert(text) }
                    }
                    let wanted = ["Skip to the content", "Overview", "Dead letters", "History", "find", "Find"]
                    #expect(reached.isSuperset(of: wanted), "\(reached)")
                } catch {
                    await browser.close()
                    throw error
                }
                await browser.close()
            }
        }
    }
}
