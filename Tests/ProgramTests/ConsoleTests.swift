import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// The console: what its pages say, what they do, and who may.
    @Suite(.timeLimit(.minutes(10)))
    struct ConsoleTests {
        /// A service whose queues are there, and no worker.
        private static func with(
            _ arguments: [String] = [],
            _ body: (ServiceFixture, ConsoleFixture) async throws -> Void
        ) async throws {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                try await body(service, ConsoleFixture(service, arguments))
            }
        }

        @Test func `letters are listed, replayed, discarded and exported`() async throws {
            try await Self.with { service, console in
                try await ConsoleFixture.fill("jobs.dlq", 5, service)
                let list = try await console.get("/dead-letters")
                #expect(list.status == 200 && list.text.contains("letter-3") && list.text.contains("5 in all"))
                let marks = list.fields("mark")
                #expect(marks.count == 5)
                let token = try await console.token()
                let preview = try await console.get("/act?act=replay&queue=dlq&mark=\(marks[1])&mark=\(marks[3])")
                #expect(preview.text.contains("Replay 2 jobs") && preview.text.contains("that costs money"))
                #expect(try await service.ready("jobs.dlq") == 5)
                let chosen = [("token", token), ("queue", "dlq"), ("mark", marks[1]), ("mark", marks[3])]
                let replayed = try await console.post("/replay", chosen)
                #expect(replayed.status == 303 && replayed.headers["location"] == "/dead-letters")
                #expect(try await console.get("/dead-letters").text.contains("2 jobs replayed."))
                let jobs = try await service.broker.take(2, from: "jobs")
                #expect(jobs.map { $0.properties.messageID?.text } == ["letter-1", "letter-3"])
                let unsure = try await console.post(
                    "/discard",
                    [("token", token), ("queue", "dlq"), ("mark", marks[0])]
                )
                #expect(unsure.status == 400)
                let sure = [("token", token), ("queue", "dlq"), ("mark", marks[0]), ("sure", "yes")]
                #expect(try await console.post("/discard", sure).status == 303)
                let missing = try await console.get("/export?queue=unknown&since=x")
                #expect(missing.status == 400)
                let export = try await console.get("/export?queue=dlq")
                #expect(export.headers["content-disposition"]?.contains("attachment") == true)
                #expect(export.text.split(separator: "\n").count == 2)
                #expect(export.text.contains(#""job_id":"letter-4""#))
                try await service.waitFor(2, in: "jobs.dlq")
            }
        }

        @Test func `what may have been paid for is left without consent`() async throws {
            try await Self.with { service, console in
                try await ConsoleFixture.fill("jobs.unknown", 3, service, code: "outcome_unknown")
                let token = try await console.token()
                let preview = try await console.get("/act?act=replay&queue=unknown")
                #expect(preview.text.contains("3 of them may have been paid for"))
                _ = try await console.post("/replay", [("token", token), ("queue", "unknown")])
                let told = try await console.get("/unknown").text
                #expect(told.contains("0 jobs replayed") && told.contains("because you did not consent"))
                try await service.waitFor(3, in: "jobs.unknown")
                let consent = [("token", token), ("queue", "unknown"), ("consent", "yes")]
                _ = try await console.post("/replay", consent)
                let jobs = try await service.broker.take(3, from: "jobs")
                #expect(jobs.allSatisfy { $0.properties.headers?["x-accept-double-charge"] == .boolean(true) })
                try await service.waitFor(0, in: "jobs.unknown")
            }
        }

        @Test func `a job is corrected with the validator's words at its fields`() async throws {
            try await Self.with { service, console in
                let job = #"{"image_urls":["ftp://x"],"prompt":" ","max_images":9,"sizee":"x"}"#
                try await service.publish([job], to: "jobs.dlq") { _, properties in
                    properties.headers = ["x-error-code": .string("invalid_job"), "x-error-charged": .string("no")]
                }
                let mark = try #require(try await console.get("/dead-letters").field("mark"))
                let form = try await console.get("/correct?queue=dlq&mark=\(mark)")
                for words in ["The image URL is not", "prompt is empty", "max_images is 9", "no such field"] {
                    #expect(form.text.contains(words), "\(words)")
                }
                var fields = [
                    ("token", try await console.token()), ("queue", "dlq"), ("mark", mark), ("id", "job-0"),
                    ("field.image_urls", "https://example.com/a.png\r\nhttps://example.com/b.png"),
                    ("field.prompt", "two\r\nlines"), ("field.image_resolution", ""), ("field.image_size", ""),
                    ("field.max_images", "seven"), ("field.seed", "5"), ("field.sizee", ""), ("step", "replay"),
                ]
                let wrong = try await console.post("/correct", fields)
                #expect(wrong.status == 422 && wrong.text.contains("max_images must be an integer"))
                #expect(wrong.text.contains("two\nlines") || wrong.text.contains("two\r\nlines"))
                fields[8] = ("field.max_images", "2")
                fields[11] = ("step", "check")
                let checked = try await console.post("/correct", fields)
                #expect(checked.text.contains("The job is valid now") && checked.text.contains("costs\nmoney"))
                #expect(try await service.ready("jobs") == 0)
                fields[11] = ("step", "replay")
                #expect(try await console.post("/correct", fields).status == 303)
                let replayed = try #require(try await service.broker.take(1, from: "jobs").first)
                let expected =
                    #"{"image_urls":["https://example.com/a.png","https://example.com/b.png"],"#
                    + #""prompt":"two\nlines","max_images":2,"seed":5}"#
                #expect(String(decoding: replayed.body, as: UTF8.self) == expected)
                #expect(replayed.properties.messageID?.text.hasPrefix("edited-") == true)
                try await service.waitFor(0, in: "jobs.dlq")
            }
        }

        @Test func `two people who replay the same letter at once replay it once`() async throws {
            try await Self.with { service, console in
                try await ConsoleFixture.fill("jobs.dlq", 20, service)
                let mark = try #require(try await console.get("/dead-letters").fields("mark").last)
                let people = (0..<4).map { _ in ConsoleFixture(beside: console) }
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for person in people {
                        let token = try await person.token()
                        let fields = [("token", token), ("queue", "dlq"), ("mark", mark)]
                        group.addTask { try await person.post("/replay", fields).status }
                    }
                    for try await status in group { #expect(status == 303) }
                }
                #expect(try await service.ready("jobs") == 1)
                try await service.waitFor(19, in: "jobs.dlq")
                var told: [String] = []
                for person in people { told.append(try await person.get("/dead-letters").text) }
                #expect(told.count { $0.contains("1 job replayed.") } == 1)
                #expect(told.count { $0.contains("it was replayed or discarded meanwhile") } == 3)
            }
        }

        @Test func `only a form of the own session changes something`() async throws {
            try await Self.with { service, console in
                try await ConsoleFixture.fill("jobs.dlq", 1, service)
                let mark = try #require(try await console.get("/dead-letters").field("mark"))
                let fields = [("queue", "dlq"), ("mark", mark), ("sure", "yes")]
                let stranger = ConsoleFixture(beside: console)
                #expect(try await stranger.post("/discard", fields).status == 403)
                let own = try await console.token()
                #expect(try await console.post("/discard", fields).status == 403)
                #expect(try await console.post("/discard", [("token", own + "x")] + fields).status == 403)
                _ = try await stranger.token()
                #expect(try await stranger.post("/discard", [("token", own)] + fields).status == 403)
                for path in ["/discard", "/replay", "/fleet/pause", "/fleet/resume", "/logout"] {
                    let query = "?queue=dlq&mark=\(mark)&sure=yes&token=\(own)"
                    #expect(try await console.get(path + query).status == 404, "GET \(path)")
                }
                #expect(try await console.get("/", ["-X", "DELETE"]).status == 405)
                for host in [
                    "evil.example", "127.evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "",
                ] {
                    #expect(try await console.get("/", ["-H", "Host: \(host)"]).status >= 400, "\(host)")
                }
                try await service.waitFor(1, in: "jobs.dlq")
                let page = try await console.get("/")
                let policy = page.headers["content-security-policy"] ?? ""
                #expect(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"))
                #expect(!policy.contains("unsafe") && page.headers["x-frame-options"] == "DENY")
                #expect(!page.text.contains("<script>") && !page.text.contains(" style="))
            }
        }

        @Test func `a password is asked for, and guesses wait for each other`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.run(["topology", "declare"])
                let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
                try Data("open sesame\n".utf8).write(to: file)
                defer { try? FileManager.default.removeItem(at: file) }
                let console = try await ConsoleFixture(service, ["--password-file", file.path])
                for path in ["/", "/dead-letters", "/job?id=x", "/history"] {
                    let page = try await console.get(path)
                    #expect(page.text.contains("Password") && !page.text.contains("Unknown outcomes"), "\(path)")
                }
                #expect(try await console.get("/overview-now").status == 403)
                let token = try await console.token()
                #expect(try await console.post("/fleet/pause", [("token", token)]).status == 403)
                // Of a stranger neither much is read nor anything parsed.
                let large = [("token", token), ("password", String(repeating: "x", count: 10_000))]
                #expect(try await console.post("/login", large).status == 413)
                let asked = try await console.get("/job?id=a%20b")
                let target = try #require(asked.field("to"))
                #expect(target == "/job?id=a%20b")
                let login = [("token", token), ("password", "open sesame"), ("to", target)]
                let right = try await console.post("/login", login)
                #expect(right.status == 303 && right.headers["location"] == target)
                let cookie = try #require(right.headers["set-cookie"])
                let port = try #require(console.base.split(separator: ":").last)
                #expect(cookie.hasPrefix("seedream-console-\(port)="), "\(cookie)")
                #expect(cookie.hasSuffix("; SameSite=Lax"), "\(cookie)")
                #expect(try await console.get("/").text.contains("Log out"))
                let old = try await console.post("/logout", [("token", token)])
                #expect(old.status == 403, "the session of before the login is worth nothing")
                #expect(try await console.post("/logout", [("token", try await console.token())]).status == 303)
                let guessers = (0..<4).map { _ in ConsoleFixture(beside: console) }
                let start = ContinuousClock.now
                try await withThrowingTaskGroup { tasks in
                    for guesser in guessers {
                        tasks.addTask {
                            let token = try await guesser.token()
                            let guess = [("token", token), ("password", "sesame")]
                            #expect(try await guesser.post("/login", guess).status == 403)
                        }
                    }
                    try await tasks.waitForAll()
                }
                #expect(start.duration(to: .now) > .seconds(2), "guesses wait for each other")
                let again = [("token", try await console.token()), ("password", "open sesame")]
                #expect(try await console.post("/login", again).status == 303)
            }
        }

        @Test(
            .serialized,
            arguments: [
                ["--listen", "0.0.0.0:0"], ["--listen", "127.0.0.1:0", "--password-file", "/nonexistent"],
                ["--listen", "127.0.0.1:0", "--password-file", "/dev/null"], ["--listen", "[::]:0"],
            ]
        )
        func `an address that others reach wants a password`(_ arguments: [String]) async throws {
            let outcome = try await Program.run(["console"] + arguments, environment: [:])
            #expect(outcome.status == 78, "\(outcome.stderr)")
            #expect(outcome.stderr.contains("password"))
        }

        @Test func `what a job says is text, whatever it is`() async throws {
            try await Self.with { service, console in
                let nasty = #"<script>alert(1)</script>"'><img src=x onerror=alert(1)>"#
                var random = SeededGenerator(seed: 7)
                let anything = String(
                    String.UnicodeScalarView(
                        (0..<5000).compactMap { _ in Unicode.Scalar(UInt32.random(in: 0...0x10FFFF, using: &random)) }
                    )
                )
                let bodies =
                    [
                        nasty, anything,
                        #"{"prompt":"\#(nasty.replacing("\"", with: "\\\""))","image_urls":["javascript:alert(1)","https://x/\u0022onload=1"]}"#,
                    ]
                    .map { Array($0.utf8) } + [[0xFF, 0xFE, 0x3C, 0x62, 0x3E]]
                try await service.broker.withConnection { connection in
                    let publisher = try await connection.makePublisher()
                    for (index, body) in bodies.enumerated() {
                        var properties = MessageProperties()
                        properties.messageID = ByteString(
                            index == 0 ? Array("\"><b>id".utf8) : [0xC3, 0x28, UInt8(index)]
                        )
                        properties.headers = [
                            "x-error-code": .string("<i>code"), "x-error-message": .string(ByteString(nasty)),
                            "x-task-id": .string("\u{202E}<u>task"), "x-job-id": .string(ByteString("\"><b>\(index)")),
                            "x-error-violations": .string(#"[{"pointer":"<p>","message":"<s>m"}]"#),
                        ]
                        let message = OutboundMessage(routingKey: "jobs.dlq", properties: properties, body: body)
                        #expect(try await publisher.publish(message) == .confirmed)
                    }
                }
                let list = try await console.get("/dead-letters")
                var pages = [list.text]
                for address in list.text.matches(of: /href="(\/job\?[^"]*)"/).map({ String($0.1) }) {
                    let path = address.replacing("&amp;", with: "&")
                    let page = try await console.get(path)
                    #expect(page.status == 200)
                    pages.append(page.text)
                    for link in page.text.matches(of: /href="(\/(correct|act)\?[^"]*)"/).map({ String($0.1) })
                    where !link.contains("export") {
                        let page = try await console.get(link.replacing("&amp;", with: "&"))
                        #expect(page.status == 200, "\(link)")
                        pages.append(page.text)
                    }
                }
                #expect(pages.count > 12)
                for page in pages {
                    for bad in [
                        "<script>alert", "<img src=x", "<b>id", "<i>code", "<u>task", "<s>m", "href=\"javascript",
                        "\u{202E}",
                    ] {
                        #expect(!page.contains(bad), "\(bad)")
                    }
                }
                #expect(pages.contains { $0.contains("&lt;script&gt;alert(1)") })
                let find = try await console.get("/job?id=%22%3E%3Cscript%3Ealert(1)%3C/script%3E%00%FF")
                #expect(find.status == 200 && !find.text.contains("<script>alert"))
            }
        }

        @Test func `many dead letters are listed within a second, and stay as they are`() async throws {
            let count = TestSize.choose(quick: 20_000, usual: 20_000, full: 100_000)
            try await Self.with { service, console in
                try await ConsoleFixture.fill("jobs.dlq", count, service)
                _ = try await console.get("/")
                // The second one waits until the first one's letters are back.
                for _ in 0..<2 {
                    let start = ContinuousClock.now
                    let list = try await console.get("/dead-letters")
                    let elapsed = ContinuousClock.now - start
                    #expect(try await elapsed < paced(.seconds(1)), "\(elapsed)")
                    #expect(list.text.contains("of \(count) in the queue"), "\(list.text.suffix(500))")
                }
                // Filters stop looking when it takes too long, and say so.
                let begun = ContinuousClock.now
                let filtered = try await console.get("/dead-letters?job=letter-\(count - 1)")
                let looked = ContinuousClock.now - begun
                #expect(try await looked < paced(.seconds(3)))
                #expect(filtered.status == 200)
                // What an action is about is counted and not kept.
                let preview = try await console.get("/act?act=replay&queue=dlq")
                #expect(preview.text.contains("api_rejected") && preview.status == 200)
                // Somebody who goes in the middle of an export leaves nothing behind.
                let part = try await console.get("/export?queue=dlq", ["--limit-rate", "500K", "--max-time", "8"])
                #expect(part.text.hasPrefix("{"))
                try await service.waitFor(UInt32(count), in: "jobs.dlq")
                #expect(try await console.get("/dead-letters").text.contains("of \(count) in the queue"))
                try await service.waitFor(UInt32(count), in: "jobs.dlq")
                let memory = try String(contentsOfFile: "/proc/\(console.program.pid)/status", encoding: .utf8)
                let peak = memory.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
                    .flatMap { Int($0.filter(\.isNumber)) }
                #expect((peak ?? .max) < 100 << 10, "\(peak ?? 0) KiB")
            }
        }

        @Test func `the fleet is paused and resumed, and the history told`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                let console = try await ConsoleFixture(service)
                try await service.publish([ServiceFixture.job()])
                try await eventually("the job's story") {
                    let page = try await console.get("/job?id=job-0").text
                    return page.contains("Accepted as task") && page.contains("Charged.")
                }
                let history = try await console.get("/history?since=1h&price=0.025")
                #expect(history.text.contains("job-0") && history.text.contains("about 0.0"))
                let token = try await console.token()
                #expect(
                    try await console.post("/fleet/pause", [("token", token), ("reason", "a <test>")]).status == 303
                )
                try await eventually("a paused fleet") { try await console.get("/").text.contains("a &lt;test&gt;") }
                let before = try await service.count("requests")
                try await service.publish([ServiceFixture.job("y")]) { _, properties in properties.messageID = "later" }
                #expect(try await console.post("/fleet/resume", [("token", token)]).status == 303)
                try await eventually("work again") { try await service.count("requests") == before + 1 }
            }
        }

        @Test(.machine) func `a broker that is away is told with what to do`() async throws {
            try await PrivateBroker.with { broker in
                let node = broker.nodes[0]
                try await ServiceFixture.with(on: TestBroker(at: node.urlText)) { service in
                    _ = try await service.run(["topology", "declare"])
                    let console = try await ConsoleFixture(service)
                    try await eventually("the queues") {
                        try await console.get("/").text.contains("No worker takes them")
                    }
                    try await broker.kill(node)
                    try await eventually("the fault") {
                        try await console.get("/").text.contains("The broker cannot be asked")
                    }
                    let letters = try await console.get("/dead-letters")
                    #expect(letters.status == 503 && letters.text.contains("check"))
                    try await broker.start(node)
                    try await eventually("the queues again", within: .seconds(60)) {
                        try await !console.get("/").text.contains("The broker cannot be asked")
                    }
                }
            }
        }
    }
}
