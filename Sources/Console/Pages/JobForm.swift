import EditJob
import JSON

/// A job's text as fields that a person can fill in, and back.
struct JobForm {
    struct Field {
        let name: String
        let text: String
        let hint: String
        var isLong = false

        /// Whether a browser that has changed nothing sends this text for one that it was given.
        ///
        /// It takes all line breaks for the same, and out of a field of one line.
        func isSame(as given: String) -> Bool {
            let given = LineBreaks.withFeeds(given)
            return text.utf8.elementsEqual((isLong ? given : given.filter { $0 != "\n" }).utf8)
        }

        var rows: Int { max(2, min(12, text.split(separator: "\n", omittingEmptySubsequences: false).count + 1)) }
    }

    /// The field of a job that is no object: its whole text.
    static let whole = "job"

    let fields: [Field]
    /// The job as it came: what a form does not change stays what it was, down to its line breaks.
    private let original: [UInt8]

    /// The fields of a job as it came.
    init(_ body: [UInt8]) {
        original = body
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

    /// The fields of a job as they were filled in.
    init(_ form: FormData, of body: [UInt8]) {
        original = body
        let names = form.names.filter { $0.hasPrefix("field.") }.map { String($0.dropFirst("field.".count)) }
        func text(_ name: String) -> String { LineBreaks.withFeeds(form["field.\(name)"] ?? "") }
        fields = names == [Self.whole] ? Self.whole(text(Self.whole)) : names.map { Self.field($0, text($0)) }
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
        let before = JobForm(original)
        if fields.count == 1, fields[0].name == Self.whole {
            let text = String(decoding: original, as: UTF8.self)
            return LineBreaks.areSame(text, fields[0].text)
                ? original : Array(LineBreaks.keeping(those: text, in: fields[0].text).utf8)
        }
        let values = (try? JSONValue(parsing: original)) ?? .null
        let members = fields.compactMap { field -> JSONMember? in
            guard !field.text.isEmpty else { return nil }
            let old = before.fields.first { $0.name == field.name }?.text ?? ""
            if let value = values[field.name], field.isSame(as: old) {
                // A list that came as a text, or a number: what the field shows is what is meant.
                let meant = Self.value(old, of: field.name)
                return JSONMember(field.name, value.isOfKind(meant) ? value : meant)
            }
            let text = LineBreaks.keeping(those: old, in: field.text)
            return JSONMember(field.name, Self.value(text, of: field.name))
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
            return .array(text.split(whereSeparator: \.isNewline).map { .string(String($0)) })
        case .prompt, .imageSize, .imageResolution: return .string(text)
        case .maxImages, .seed, nil: return (try? JSONValue(parsing: text.utf8)) ?? .string(text)
        }
    }

    /// The field that a place is in.
    static func name(of pointer: JSONPointer) -> String { pointer.tokens.first ?? whole }
}

extension JSONValue {
    fileprivate func isOfKind(_ other: JSONValue) -> Bool {
        switch (self, other) {
        case (.string, .string), (.array, .array), (.object, .object), (.boolean, .boolean), (.null, .null): true
        case (.integer, .integer), (.integer, .real), (.real, .integer), (.real, .real): true
        default: false
        }
    }
}
