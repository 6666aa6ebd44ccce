import EditJob
import EditWorker
import JSON
import OperatorTools
import RabbitMQ
import SeedreamAPI
import SharedValues

/// Everything that is known of one job.
struct JobPage {
    let id: String
    /// What the ledger says; nil if there is none.
    let submissions: [SubmissionRecord]?
    let letters: [(queue: DeadLetterService.Queue, letter: DeadLetter)]
    /// What the API says of the job's task; nil if it was not asked.
    let status: TaskStatus?
    /// What could not be read, and why.
    let faults: [String]
    /// The console's own name, as the browser has it.
    let host: String?
    let layout: Layout

    var html: HTML {
        layout.page("Job \(id.cut(to: 80))", job: id == DeadLetter.noID ? "" : id, content)
    }

    @HTMLBuilder private var content: HTML {
        HTML(faults.map { Layout.fault($0) })
        if letters.isEmpty, submissions?.isEmpty ?? true {
            Layout.empty(
                "Nothing is known of a job with this id. It may still wait in its queue, have ended longer ago than journal.retention, or have another id."
            )
        }
        story
        HTML(letters.map { section($0.queue, $0.letter) })
        results
    }

    @HTMLBuilder private var story: HTML {
        if let submissions {
            if !submissions.isEmpty {
                "<section aria-labelledby=\"story\"><h2 id=\"story\">What happened</h2><ol class=\"story\">\(events(submissions))</ol></section>"
            }
        } else {
            Layout.empty("There is no ledger, so that what was submitted is known by its dead letter and reply only.")
        }
    }

    private func events(_ submissions: [SubmissionRecord]) -> [HTML] {
        submissions.flatMap { submission -> [HTML] in
            let images = submission.images == 1 ? "1 image" : "\(submission.images) images"
            var events: [HTML] = [
                "<li><time>\(submission.submittedAt.description)</time> Submitted by \(submission.worker), for at most \(images).</li>"
            ]
            let at: HTML = submission.endedAt.map { "<time>\($0.description)</time> " } ?? ""
            let code = submission.code.map { " (\($0))" } ?? ""
            let end: HTML =
                switch submission.result {
                case .submitted: "Accepted as task <b>\(submission.taskID ?? "?")</b>. Charged."
                case .refused: "Refused\(code). Not charged."
                case .unknown:
                    "<span class=\"calls\">Nobody knows whether it was accepted\(code). Perhaps charged.</span>"
                case .returned: "Not accepted, and to be tried again. Not charged."
                case .running: "Under way."
                }
            events.append("<li>\(at)\(end)</li>")
            if let followed = submission.followed {
                events.append(
                    followed == "completed"
                        ? "<li>Its images were ready.</li>" : "<li class=\"calls\">No images: \(followed).</li>"
                )
            }
            return events
        }
    }

    private func section(_ queue: DeadLetterService.Queue, _ letter: DeadLetter) -> HTML {
        let headers = letter.delivery.properties.headers ?? [:]
        let properties = letter.delivery.properties
        let violations = letter.violations.map { violation -> HTML in
            "<li><code>\(violation["pointer"]?.text ?? "")</code> \(violation["message"]?.text ?? "")</li>"
        }
        var facts: [(String, HTML?)] = []
        func fact(_ name: String, _ value: String?) {
            if let value, !value.isEmpty { facts.append((name, "\(value)")) }
        }
        fact("Code", letter.code)
        fact("Message", letter.message)
        if let charged = letter.charged {
            facts.append(("Charged", charged == "no" ? "no" : "<span class=\"calls\">\(charged)</span>"))
        }
        fact("Attempts", letter.attempts.map { String($0) })
        fact("Task id", letter.taskID)
        fact("HTTP status", headers[JobHeader.httpStatus]?.integer.map { String($0) })
        fact("Failed at", letter.failedAt?.description)
        fact("Worker", headers[JobHeader.worker]?.text)
        fact("Reply to", properties.replyTo?.text)
        fact("Correlation id", properties.correlationID?.text)
        if !violations.isEmpty { facts.append(("What is wrong", "<ul>\(violations)</ul>")) }
        fact("What to do", Advice.deadLetter(letter.code, isUnknown: queue == .unknown))
        let fields = [("queue", queue.rawValue), ("mark", letter.mark)]
        let act = { (act: String) in FormData.address("/act", fields + [("act", act)]) }
        return """
            <section><h2>\(queue == .unknown ? "In the queue of unknown outcomes" : "In the dead letter queue")</h2>
            \(Layout.facts(facts))<p class="acts"><a class="button" href="\(act("replay"))">Replay…</a>
            <a class="button" href="\(FormData.address("/correct", fields + [("id", letter.jobID)]))">Correct and replay…</a>
            <a class="button" href="\(act("discard"))">Discard…</a>
            <a class="button" href="\(act("export"))">Export</a></p>
            <h3>The job</h3><pre tabindex="0">\(Self.text(of: letter.delivery))</pre>\(inputs(letter))</section>
            """
    }

    /// More of a body is of no use.
    private static func text(of delivery: Delivery) -> String {
        guard delivery.isBodyKept else { return "\(delivery.bodySize) bytes, too many to be shown" }
        let shown = String(decoding: delivery.body.prefix(65_536), as: UTF8.self)
        return delivery.body.count > 65_536 ? shown + "\n… and \(delivery.body.count - 65_536) bytes more" : shown
    }

    private func inputs(_ letter: DeadLetter) -> HTML {
        guard case .array(let urls)? = (try? JSONValue(parsing: letter.delivery.body))?["image_urls"] else { return "" }
        return "<h3>Images to be edited</h3>\(pictures(urls.prefix(10).compactMap(\.text)))"
    }

    @HTMLBuilder private var results: HTML {
        switch status {
        case .completed(let urls)?: "<section><h2>Images</h2>\(pictures(urls))</section>"
        case .running?: "<section><h2>Images</h2>\(Layout.empty("The API is still making them."))</section>"
        case .failed(let code, let message)?:
            "<section><h2>Images</h2><p>The API made none. \(code ?? "") \(message ?? "")</p></section>"
        case .notFound?: "<section><h2>Images</h2><p>The API does not know the task any more.</p></section>"
        case .unreadable?, .noAnswer?:
            "<section><h2>Images</h2><p>The API was asked for the task, and did not say anything that can be read. Load the page again.</p></section>"
        case nil: ""
        }
    }

    private func pictures(_ urls: [String]) -> HTML {
        guard !urls.isEmpty else { return "" }
        let items = urls.map { url -> HTML in
            // Nothing else may become an address here: not `javascript:`, say.
            guard URLParts(url)?.isWeb == true else { return "<li>\(url.cut(to: 300))</li>" }
            // Browsers send this console's cookie to all ports of its host.
            let isNeighbour = isOnThisHost(url)
            let anonymous: HTML = isNeighbour ? " crossorigin=\"anonymous\"" : ""
            let picture: HTML =
                layout.options.showsImages
                ? "<img src=\"\(url)\" alt=\"\" loading=\"lazy\" referrerpolicy=\"no-referrer\"\(anonymous)>" : ""
            guard !isNeighbour else { return "<li>\(picture)<span>\(url.cut(to: 120))</span></li>" }
            return
                "<li><a href=\"\(url)\" rel=\"noreferrer noopener\">\(picture)<span>\(url.cut(to: 120))</span></a></li>"
        }
        return "<ul class=\"pictures\">\(items)</ul>"
    }

    /// Whether a URL leads to another port of the host that the console is reached by.
    private func isOnThisHost(_ url: String) -> Bool {
        func name(_ authority: String) -> String {
            let name = authority.hasPrefix("[") ? authority.prefix { $0 != "]" } : authority.prefix { $0 != ":" }
            return name.lowercased()
        }
        guard let address = URLParts(url)?.address else { return false }
        return host.map { name($0) == name(String(address)) } ?? true
    }

    /// Where the page's images come from, for its policy.
    var imageOrigins: Set<String> {
        guard layout.options.showsImages else { return [] }
        var urls: [String] = []
        if case .completed(let made)? = status { urls += made }
        for (_, letter) in letters {
            if case .array(let inputs)? = (try? JSONValue(parsing: letter.delivery.body))?["image_urls"] {
                urls += inputs.prefix(10).compactMap(\.text)
            }
        }
        return Set(urls.compactMap(Self.origin))
    }

    /// Scheme, host and port of a URL in letters that a policy may have; nil of anything else.
    static func origin(_ url: String) -> String? {
        guard let parts = URLParts(url), parts.isWeb, parts.user == nil, let address = try? HostAndPort(parts.address),
            address.host.utf8.allSatisfy({ byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"):
                    true
                default: false
                }
            })
        else { return nil }
        return "\(parts.scheme)://\(address.host)" + (address.port.map { ":\($0)" } ?? "")
    }
}
