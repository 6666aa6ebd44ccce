import OperatorTools

/// What will happen, before it does.
struct ActPage {
    enum Act: String {
        case replay, discard
    }

    let act: Act
    let choice: LetterChoice
    let summary: DeadLetterService.Summary
    let queues: (jobs: String, from: String)
    let until: String
    let layout: Layout

    private var count: Int { summary.count }
    private var inDoubt: Int { summary.inDoubt }

    var html: HTML {
        let title = act == .replay ? "Replay" : "Discard"
        guard count > 0 else {
            return layout.page(
                "\(title): nothing to do",
                """
                \(Layout.empty("No letter is meant any more: it was replayed or discarded meanwhile, or none passes the filter."))
                <p><a href="\(choice.queue.place.rawValue)">Back to the letters</a></p>
                """
            )
        }
        return layout.page(
            count == 1 && summary.isWhole ? "\(title) one job" : "\(title) jobs",
            """
            <p class="lead">\(title) \(choice.words): \(number).</p>
            <div class="narrow">\(byCode)</div><ul class="plan">\(plan)</ul>
            <form method="post" action="/\(act.rawValue)">\(layout.token)\(choice.hidden)
            \(Layout.hidden("until", until))\(consent)
            <div class="acts"><button class="\(act == .discard ? "danger" : "primary")">\(title) \(number)</button>
            <a href="\(choice.queue.place.rawValue)">Cancel</a></div></form>
            """
        )
    }

    private var number: String {
        let jobs = count == 1 ? "1 job" : "\(count) jobs"
        return summary.isWhole ? jobs : "\(jobs) or more"
    }

    private var byCode: HTML {
        let codes = summary.byCode.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        return Layout.table(
            "By code",
            ["Code", "Jobs"],
            codes.map { ["\($0.key)", "\($0.value)"] },
            numbers: ["Jobs"]
        )
    }

    private var plan: [HTML] {
        switch act {
        case .replay:
            [
                "<li>Each job is published to <b>\(queues.jobs)</b> again, as it came, and removed from <b>\(queues.from)</b> once the broker has it.</li>",
                "<li>A worker then submits it: that costs money.</li>",
                inDoubt > 0
                    ? "<li class=\"calls\">\(inDoubt) of them may have been paid for already. Without your consent these stay where they are.</li>"
                    : "<li>None of them has been paid for.</li>",
            ]
        case .discard:
            [
                "<li>Each job is removed from <b>\(queues.from)</b> for ever. Its producer has had its reply.</li>",
                "<li>To keep a copy, <a href=\"\(FormData.address("/export", choice.fields))\">export them</a> first.</li>",
                inDoubt > 0
                    ? "<li class=\"calls\">\(inDoubt) of them may have been paid for; their task ids go too.</li>" : "",
            ]
        }
    }

    private var consent: HTML {
        switch act {
        case .replay where inDoubt > 0:
            """
            <p class="consent"><input type="checkbox" id="consent" name="consent" value="yes">
            <label for="consent">Submit also those that may have been paid for. They may be paid for twice.</label></p>
            """
        case .discard:
            """
            <p class="consent"><input type="checkbox" id="sure" name="sure" value="yes" required>
            <label for="sure">Remove them for ever.</label></p>
            """
        default: ""
        }
    }
}
