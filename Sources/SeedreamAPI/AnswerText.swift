import JSON

extension APIAnswer {
    /// What the API says for a person, where it says so in a known place; may quote the job.
    package var message: String? { AnswerText(body).message }
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
        guard let value = json?["code"] ?? json?["error_code"] else { return nil }
        if let number = value.exactInteger { return Int(number) }
        return value.text.flatMap { Int($0) }
    }

    /// Whether it is one of the error bodies of the API's family.
    var isErrorEnvelope: Bool {
        ["code", "msg", "message", "error_msg", "error_code"].contains { json?[$0] != nil }
    }

    /// Whether it says that the content was refused, whatever its form.
    var speaksOfContent: Bool {
        let text = String(decoding: bytes, as: UTF8.self).lowercased()
        return ["policy", "sensitive", "nsfw", "moderation"].contains { text.contains($0) }
    }

    /// What the API says for a person, where it says so in a known place; may quote the job.
    var message: String? {
        for name in ["message", "msg", "error_msg", "detail", "error"] {
            if let text = json?[name]?.text ?? json?[name]?["message"]?.text { return text }
        }
        return nil
    }
}
