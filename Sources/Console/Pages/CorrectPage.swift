import EditJob
import JSON
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
                        \(field.text)</textarea>
                        """
                        : """
                        <input id="\(id)" name="field.\(field.name)" value="\(field.text)" autocomplete="off"
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

/// A job's text as fields that a person can fill in, and back.
struct JobForm {
    struct Field {
        let name: String
        let text: String
        let hint: String
        var isLong = false
        var rows: Int { max(2, min(12, text.split(separator: "\n", omittingEmptySubsequences: false).count + 1)) }
    }

    /// The field of a job that is no object: its whole text.
    static let whole = "job"

    let fields: [Field]

    /// The fields of a job as it came.
    init(_ body: [UInt8]) {
        guard case .object(let members)? = try? JSONValue(parsing: body) else {
            fields = Self.whole(String(decoding: body, as: UTF8.self))
            return
        }
        let known = EditJob.Field.allCases.map(\.rawValue)
        let extra = members.map(\.name).filter { !known.contains($0) }
        fields = (known + extra)
            .map { name in
                Self.field(name, members.first { $0.name == name }.map { Self.text($0.value, of: name) } ?? "")
            }
    }

    /// The fields as they were filled in.
    init(_ form: FormData) {
        // Browsers send line ends of two characters.
        func text(_ name: String) -> String? {
            form["field.\(name)"]?.split(separator: "\r\n", omittingEmptySubsequences: false).joined(separator: "\n")
        }
        let names = form.names.filter { $0.hasPrefix("field.") }.map { String($0.dropFirst("field.".count)) }
        if names == [Self.whole], let text = text(Self.whole) {
            fields = Self.whole(text)
        } else {
            fields = names.map { Self.field($0, text($0) ?? "") }
        }
    }

    private static func whole(_ text: String) -> [Field] {
        [Field(name: Self.whole, text: text, hint: "The job is not a JSON object. Write one.", isLong: true)]
    }

    private static func field(_ name: String, _ text: String) -> Field {
        switch EditJob.Field(rawValue: name) {
        case .imageURLs: Field(name: name, text: text, hint: "1 to 10 image URLs, one on each line.", isLong: true)
        case .prompt:
            Field(name: name, text: text, hint: "What to do with the images; at most 5000 characters.", isLong: true)
        case .imageSize: Field(name: name, text: text, hint: choices(EditJob.ImageSize.allCases.map(\.rawValue)))
        case .imageResolution:
            Field(name: name, text: text, hint: choices(EditJob.ImageResolution.allCases.map(\.rawValue)))
        case .maxImages: Field(name: name, text: text, hint: "A number from 1 to 6. Empty: the API's default.")
        case .seed: Field(name: name, text: text, hint: "An integer. Empty: none.")
        case nil: Field(name: name, text: text, hint: "The API has no such field. Empty it to leave it out.")
        }
    }

    private static func choices(_ names: [String]) -> String {
        "One of \(names.joined(separator: ", ")). Empty: the API's default."
    }

    private static func text(_ value: JSONValue, of name: String) -> String {
        if name == EditJob.Field.imageURLs.rawValue, case .array(let elements) = value,
            elements.allSatisfy({ $0.text != nil })
        {
            return elements.compactMap(\.text).joined(separator: "\n")
        }
        return value.text ?? String(decoding: value.encoded(), as: UTF8.self)
    }

    /// The job's text.
    ///
    /// What is empty is left out; what a text field holds is a text, whatever it looks like.
    var body: [UInt8] {
        if fields.count == 1, fields[0].name == Self.whole { return Array(fields[0].text.utf8) }
        let members = fields.compactMap { field -> JSONMember? in
            guard !field.text.isEmpty else { return nil }
            return JSONMember(field.name, Self.value(field.text, of: field.name))
        }
        return JSONValue.object(members).encoded()
    }

    private static func value(_ text: String, of name: String) -> JSONValue {
        switch EditJob.Field(rawValue: name) {
        case .imageURLs:
            // Something else than a list stays what it is, for the validator's words.
            if text.hasPrefix("[") || text.hasPrefix("{"), let value = try? JSONValue(parsing: text.utf8) {
                return value
            }
            return .array(text.split(separator: "\n").map { .string(String($0)) })
        case .prompt, .imageSize, .imageResolution: return .string(text)
        case .maxImages, .seed, nil: return (try? JSONValue(parsing: text.utf8)) ?? .string(text)
        }
    }

    /// The field that a place is in.
    static func name(of pointer: JSONPointer) -> String { pointer.tokens.first ?? whole }
}
