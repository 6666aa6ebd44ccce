import EditJob
import OperatorTools

/// A job's fields in a form, with the validator's words at each.
struct CorrectPage {
    let letter: DeadLetter
    let choice: LetterChoice
    let form: JobForm
    /// What is wrong with what is in the form.
    let violations: [Violation]
    /// What is wrong as a whole.
    let fault: String?
    /// Whether it may be replayed as it stands, which is asked now.
    let isChecked: Bool
    let layout: Layout

    private var needsConsent: Bool { choice.queue == .unknown || letter.mayHaveBeenCharged }

    var html: HTML {
        layout.page(
            "Correct job \(letter.jobID.cut(to: 60))",
            job: letter.jobID == DeadLetter.noID ? "" : letter.jobID,
            """
            <p class="lead">\(letter.message.isEmpty ? letter.code : letter.message)</p>
            \(fault.map { Layout.fault($0) } ?? "")\(summary)
            <form class="correct" method="post" action="/correct" novalidate>\(layout.token)\(choice.hidden)
            \(Layout.hidden("id", letter.jobID))\(fields)\(isChecked ? confirmation : check)</form>
            """
        )
    }

    private var summary: HTML {
        guard !violations.isEmpty else { return "" }
        let count = violations.count == 1 ? "1 thing is" : "\(violations.count) things are"
        return Layout.fault("\(count) wrong; the words are at each field.")
    }

    private var fields: HTML {
        HTML(
            form.fields.enumerated()
                .map { index, field in
                    let wrong = violations.filter { JobForm.name(of: $0.pointer) == field.name }
                    let words = wrong.map { "<p class=\"wrong\">\($0.message)</p>" as HTML }
                    let id = "field-\(index)"
                    let state: HTML = wrong.isEmpty ? "" : " aria-invalid=\"true\""
                    let input: HTML =
                        field.isLong
                        ? """
                        <textarea id="\(id)" name="field.\(field.name)" rows="\(field.rows)" spellcheck="true"
                        aria-describedby="\(id)-hint"\(state)>
                        \(exact: field.text)</textarea>
                        """
                        : """
                        <input id="\(id)" name="field.\(field.name)" value="\(exact: field.text)" autocomplete="off"
                        aria-describedby="\(id)-hint"\(state)>
                        """
                    return """
                        <div class="field"><label for="\(id)">\(field.name)</label>\(input)
                        <div id="\(id)-hint"><p class="hint">\(field.hint)</p>\(words)</div></div>
                        """
                }
        )
    }

    private var check: HTML {
        """
        <div class="acts"><button class="primary" name="step" value="check">Check</button>
        <a href="\(choice.queue.place.rawValue)">Cancel</a>
        <span class="hint">Nothing happens before you are asked again.</span></div>
        """
    }

    private var confirmation: HTML {
        let consent: HTML =
            needsConsent
            ? """
            <p class="consent"><input type="checkbox" id="consent" name="consent" value="yes" required>
            <label for="consent">It may have been paid for. Submit it all the same; it may be paid for twice.</label></p>
            """ : ""
        return """
            <div class="note" role="status"><p>The job is valid now. It is published to <b>\(layout.options.queueName)</b>
            with an id of its own, and the letter is removed once the broker has it. A worker then submits it: that costs
            money.</p></div>\(consent)<div class="acts"><button class="primary" name="step" value="replay">Replay the corrected job</button>
            <button name="step" value="check">Check again</button><a href="\(choice.queue.place.rawValue)">Cancel</a></div>
            """
    }
}
