import JSON
import SharedValues

/// What a look at a task means.
package enum TaskStatus: Hashable, Sendable {
    /// The images are not ready.
    case running
    /// They are, under these URLs; at least one.
    case completed([String])
    /// There will be none, and why in the API's words.
    case failed(code: String?, message: String?)
    /// The API does not know the task; or something in front of it does not know the API.
    case notFound(isOfAPI: Bool)
    /// The task is completed, and where its images are cannot be read.
    case unreadable
    /// The answer says nothing about the task: look again, after that wait at the earliest.
    case noAnswer(retryAfter: Duration?, isTokenRefused: Bool)

    /// Whether the answer says something of the task, so that the token was taken.
    package var isAnswer: Bool {
        switch self {
        case .noAnswer, .notFound(isOfAPI: false): false
        case .running, .completed, .failed, .notFound, .unreadable: true
        }
    }
}

/// The table of what each answer about a task, and each silence, means: a pure function.
///
/// Looking costs nothing and can be repeated, so that whatever the table does not know is looked at again.
package enum TaskStatusTable {
    /// As of a job's own URLs.
    private static let longestURL = 8192
    /// The API makes at most 6; what is far beyond is no result.
    private static let mostImages = 100

    /// What the result of a look means.
    package static func status(of result: SubmissionResult) -> TaskStatus {
        guard case .answered(let answer) = result else { return .noAnswer(retryAfter: nil, isTokenRefused: false) }
        let wait = RetryAfter.wait(answer.retryAfter, date: answer.date)
        let text = AnswerText(answer.body)
        guard (200...299).contains(answer.status) else { return status(answer.status, wait, isOfAPI: text.isOfAPI) }
        guard let json = text.json else { return .noAnswer(retryAfter: wait, isTokenRefused: false) }
        guard json["status"]?.text == nil, let code = text.envelopeCode else { return status(json, wait) }
        // The API family's envelope within a 200.
        guard code == 200 || code == 0, let data = json["data"] else { return status(code, wait, isOfAPI: true) }
        return status(data, wait)
    }

    /// What a look saw, in a few words for people.
    package static func description(of result: SubmissionResult) -> String {
        switch result {
        case .failed(.timedOut): return "no answer in time"
        case .failed(.connectionEnded), .failed(.cancelled): return "no answer: the connection ended"
        case .failed: return "no connection to the API"
        case .answered(let answer):
            guard (200...299).contains(answer.status) else { return "HTTP status \(answer.status)" }
            let json = AnswerText(answer.body).json
            let data = json?["data"]
            let word = [json?["status"], json?["state"], data?["status"], data?["state"]].lazy.compactMap { $0?.text }
                .first
            // A word and no sentence: it may repeat nothing of a job.
            let isWord = word.map { (1...32).contains($0.utf8.count) && $0.utf8.allSatisfy(isWordByte) } ?? false
            if isWord, let word { return "the status \(word)" }
            return json == nil ? "an answer that cannot be read" : "an answer without a known status"
        }
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"): true
        default: false
        }
    }

    private static func status(_ code: Int, _ wait: Duration?, isOfAPI: Bool) -> TaskStatus {
        switch code {
        case 404: .notFound(isOfAPI: isOfAPI)
        case 401: .noAnswer(retryAfter: wait, isTokenRefused: true)
        default: .noAnswer(retryAfter: wait, isTokenRefused: false)
        }
    }

    private static func status(_ json: JSONValue, _ wait: Duration?) -> TaskStatus {
        switch (json["status"]?.text ?? json["state"]?.text)?.lowercased() {
        case "pending", "processing", "waiting", "queuing", "generating": return .running
        case "completed", "success", "succeeded": return images(result(json)).map { .completed($0) } ?? .unreadable
        case "failed", "fail", "cancelled", "canceled", "expired", "rejected":
            return .failed(
                code: word(json["error_code"]) ?? word(json["failCode"]),
                message: word(json["error_msg"]) ?? word(json["failMsg"])
            )
        default: return .noAnswer(retryAfter: wait, isTokenRefused: false)
        }
    }

    /// Where the images are: `result`, or the family's JSON within a text.
    private static func result(_ json: JSONValue) -> JSONValue? {
        if let result = json["result"], result != .null { return result }
        guard let inner = json["resultJson"] else { return nil }
        let value = inner.text.map { try? JSONValue(parsing: $0.utf8) } ?? inner
        return value?["resultUrls"]
    }

    /// The URLs of an array of URLs or of `{"type", "url"}`; nil if one of them is none.
    private static func images(_ result: JSONValue?) -> [String]? {
        guard case .array(let elements)? = result, (1...mostImages).contains(elements.count) else { return nil }
        var urls: [String] = []
        for element in elements {
            guard let url = element.text ?? element["url"]?.text, isUsable(url) else { return nil }
            urls.append(url)
        }
        return urls
    }

    private static func isUsable(_ url: String) -> Bool {
        guard url.utf8.count <= longestURL, url.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { return false }
        return URLParts(url).map { $0.isWeb && !$0.address.isEmpty } ?? false
    }

    private static func word(_ value: JSONValue?) -> String? {
        value?.text.flatMap { $0.isEmpty ? nil : $0 } ?? value?.exactInteger.map { "\($0)" }
    }
}
