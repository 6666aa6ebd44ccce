import EditJob
import OperatorTools
import SharedValues

/// Which letters a page or an action is about, as its address and its forms say it.
struct LetterChoice {
    let queue: DeadLetterService.Queue
    let code: String?
    let job: String?
    let since: String?
    /// Letters that were ticked; empty for all that the filter takes.
    let marks: [String]
    /// What had not failed by then was not shown to anybody.
    let until: Timestamp?

    init(_ form: FormData, queue: DeadLetterService.Queue? = nil) {
        self.queue = queue ?? form["queue"].flatMap { DeadLetterService.Queue(rawValue: $0) } ?? .deadLetters
        code = form.word("code")
        job = form.word("job")
        since = form.word("since")
        marks = form.all("mark").filter { !$0.isEmpty }
        until = form["until"].flatMap { Timestamp(rfc3339: $0) }
    }

    /// Nil if `since` is no time.
    var filter: DeadLetterFilter? {
        var filter = DeadLetterFilter(codes: Set([code].compactMap { $0 }), jobs: Set([job].compactMap { $0 }))
        if let since {
            guard let moment = Timestamp(ago: since, before: .now) else { return nil }
            filter.since = moment
        }
        filter.marks = Set(marks)
        filter.until = until
        return filter
    }

    var isEverything: Bool { code == nil && job == nil && since == nil && marks.isEmpty }

    /// The choice for an address or a form, with the letters that were ticked.
    var fields: [(String, String)] {
        var fields = [("queue", queue.rawValue)]
        for (name, value) in [("code", code), ("job", job), ("since", since)] {
            if let value { fields.append((name, value)) }
        }
        return fields + marks.map { ("mark", $0) }
    }

    var hidden: HTML { HTML(fields.map { Layout.hidden($0, $1) }) }

    /// The choice in words.
    var words: String {
        switch marks.count {
        case 0: everything
        case 1: "the letter that you chose"
        default: "the \(marks.count) letters that you chose"
        }
    }

    /// All that the filter takes, in words.
    var everything: String {
        let parts = [code.map { "with code \($0)" }, job.map { "of job \($0)" }, since.map { "since \($0)" }]
        let filter = parts.compactMap { $0 }
        return filter.isEmpty ? "all letters of this queue" : "all letters " + filter.joined(separator: ", ")
    }
}

/// Failed jobs, or those with an unknown outcome.
struct DeadLettersPage {
    /// A page has no more.
    static let most = 100

    let choice: LetterChoice
    let look: DeadLetterService.Look
    let layout: Layout

    private var isUnknown: Bool { choice.queue == .unknown }

    var html: HTML {
        layout.page(
            choice.queue.place.title,
            at: choice.queue.place,
            """
            <p class="lead">\(isUnknown
                ? "Jobs that may have been paid for: it is not known. Look into the account before you replay one."
                : "Jobs that have failed for good. Nothing is lost: replay them, correct them, or discard them.")</p>
            \(filterForm)\(list)
            """
        )
    }

    private var filterForm: HTML {
        func field(_ name: String, _ title: String, _ value: String?, _ hint: String) -> HTML {
            """
            <div><label for="f-\(name)">\(title)</label>
            <input id="f-\(name)" name="\(name)" value="\(value ?? "")" placeholder="\(hint)" autocomplete="off"></div>
            """
        }
        let codes = Array(Set(look.letters.map(\.code))).sorted().map { "<option value=\"\($0)\"></option>" as HTML }
        return """
            <form class="filter" action="\(choice.queue.place.rawValue)">
            <div><label for="f-code">Code</label><input id="f-code" name="code" list="codes" value="\(choice.code ?? "")"
            placeholder="invalid_job" autocomplete="off"><datalist id="codes">\(codes)</datalist></div>
            \(field("job", "Job id", choice.job, "order-4711"))
            \(field("since", "Failed since", choice.since, "2h, 3d"))<button>Filter</button>
            \(choice.isEverything ? "" : "<a href=\"\(choice.queue.place.rawValue)\">Show all</a>" as HTML)</form>
            """
    }

    private var list: HTML {
        guard !look.letters.isEmpty else {
            let isWhole = look.isWhole
            return switch (look.total, isWhole) {
            case (0, _):
                Layout.empty(
                    isUnknown
                        ? "There are none. The outcome of every submission is known."
                        : "There are none. No job has failed for good."
                )
            case (_, true): Layout.empty("None of the \(look.total) letters matches this filter.")
            case (_, false):
                Layout.empty(
                    "None of the oldest \(look.seen) of \(look.total) letters matches this filter. The search stops there, so that "
                        + "the page does not take too long; seedream-worker dead-letters list searches all of them."
                )
            }
        }
        let rows = look.letters.map { letter -> [HTML] in
            let age = letter.age(at: .now).map { ShortDuration.text($0) + " ago" } ?? "–"
            let title = letter.jobID == DeadLetter.noID ? "no id" : letter.jobID
            return [
                """
                <input type="checkbox" name="mark" value="\(letter.mark)" aria-label="Choose \(title.cut(to: 60)), \(letter.code)">
                """,
                "<a href=\"\(jobAddress(letter))\">\(title.cut(to: 80))</a>", "\(letter.code)",
                "\(letter.message.cut(to: 200))",
                letter.mayHaveBeenCharged
                    ? "<span class=\"calls\">\(letter.charged ?? "maybe")</span>" : "\(letter.charged ?? "–")",
                "<time>\(age)</time>",
            ]
        }
        let shown =
            look.letters.count < look.total
            ? "The \(look.letters.count) oldest\(choice.isEverything ? "" : " that match"), of \(look.total) in the queue."
            : "\(look.total) in all."
        let others: HTML = look.missing > 0 ? " \(look.missing) are held by another consumer at the moment." : ""
        return """
            <form method="get" action="/act">\(Layout.hidden("queue", choice.queue.rawValue))\(filterFields)
            <p class="hint">\(shown)\(others) Oldest first.</p>
            \(Layout.table(choice.queue.place.title, ["Choose", "Job", "Code", "Message", "Charged", "Failed"], rows))
            <div class="acts"><button name="act" value="replay">Replay…</button>
            <button name="act" value="discard">Discard…</button>
            <button name="act" value="export">Export</button>
            <span class="hint">If you tick none, this is about \(choice.everything). You are asked before anything happens.</span></div></form>
            """
    }

    private var filterFields: HTML {
        HTML(choice.fields.filter { $0.0 != "queue" && $0.0 != "mark" }.map { Layout.hidden($0, $1) })
    }

    private func jobAddress(_ letter: DeadLetter) -> String {
        FormData.address("/job", [("id", letter.jobID), ("queue", choice.queue.rawValue), ("mark", letter.mark)])
    }
}
