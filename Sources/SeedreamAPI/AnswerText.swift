import JSON

extension APIAnswer {
    /// What the API says for a person, where it says so in a known place; may quote the job.
    package var message: String? { AnswerText(body).message }

    /// The text of the body, or of what came of it, on one line; nil if there is none.
    ///
    /// May quote the job. Of a long body only the beginning.
    package var line: String? {
        let bytes = if case .complete(let bytes) = body { bytes } else { fragment }
        let text = String(decoding: bytes.prefix(2048), as: UTF8.self)
        let words = text.split {
            $0.isWhitespace || $0.unicodeScalars.contains { $0.properties.generalCategory == .control }
        }
        return words.isEmpty ? nil : words.joined(separator: " ")
    }
}

/// An answer's body, read for what the outcome table asks of it.
struct AnswerText {
    /// The body as JSON, nil if it is none or did not come whole.
    let json: JSONValue?
    private let bytes: [UInt8]

    init(_ body: APIAnswer.Body) {
        guard case .complete(let bytes) = body else {
            self.bytes = []
            json = nil
            return
        }
        self.bytes = bytes
        json = try? JSONValue(parsing: bytes)
    }

    /// `code` or `error_code` as an integer or a numeric string, the way the API's family reports errors in a 200.
    var envelopeCode: Int? {
        for name in ["code", "error_code"] {
            guard let value = json?[name] else { continue }
            if let number = value.exactInteger ?? value.text.flatMap({ Int64($0) }) { return Int(number) }
        }
        return nil
    }

    /// Whether the API itself has answered, and not something in front of it: an object with one of the members in which
    /// APIs say what is wrong.
    var isOfAPI: Bool {
        ["code", "message", "msg", "error", "error_code", "error_msg", "detail", "errors", "title"]
            .contains { json?[$0] != nil }
    }

    /// The task ids that it has in the places where the API's family puts them, each once, in the order of those places.
    var taskIDs: [String] {
        var ids: [String] = []
        for place in [json, json?["data"]] {
            for name in ["task_id", "taskId"] {
                guard let value = place?[name] else { continue }
                let id = value.text ?? value.exactInteger.map { "\($0)" } ?? ""
                if !id.isEmpty, !ids.contains(id) { ids.append(id) }
            }
        }
        return ids
    }

    /// Whether it says that the content was refused, whatever its form.
    var speaksOfContent: Bool {
        let text = String(decoding: bytes, as: UTF8.self).lowercased()
        return ["policy", "sensitive", "nsfw", "moderation"].contains { text.contains($0) }
    }

    /// What the API says for a person, where it says so in a known place; may quote the job.
    ///
    /// Beside the family's own members: FastAPI's `detail` lists, `errors` as a list or a map of lists, and the `title` of
    /// RFC 9457 §3.1.
    var message: String? {
        for name in ["message", "msg", "error_msg", "error", "detail", "errors", "title"] {
            if let value = json?[name], let words = Self.words(value) { return words }
        }
        return nil
    }

    private static let mostWords = 10

    private static func words(_ value: JSONValue) -> String? {
        switch value {
        case .string(let text): return text.isEmpty ? nil : text
        case .array(let elements):
            let all = elements.prefix(mostWords).compactMap { words($0) }
            return all.isEmpty ? nil : all.joined(separator: "; ")
        case .object(let members):
            for name in ["message", "msg", "detail", "title"] {
                guard let text = value[name]?.text, !text.isEmpty else { continue }
                return [place(value["loc"]), text].compactMap { $0 }.joined(separator: ": ")
            }
            // A map from a field to what is wrong with it.
            let all = members.prefix(mostWords)
                .compactMap { member -> String? in
                    switch member.value {
                    case .array, .string: words(member.value).map { "\(member.name): \($0)" }
                    default: nil
                    }
                }
            return all.isEmpty ? nil : all.joined(separator: "; ")
        case .null, .boolean, .integer, .real: return nil
        }
    }

    /// Where in the request something is wrong, as FastAPI writes it: `["body", "image_urls", 0]`.
    private static func place(_ value: JSONValue?) -> String? {
        guard case .array(let steps)? = value else { return nil }
        let names = steps.compactMap { $0.text ?? $0.exactInteger.map { "\($0)" } }
        return names.isEmpty ? nil : names.joined(separator: ".")
    }
}
