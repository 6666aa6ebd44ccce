import JSON

/// What a look at a task means.
package enum TaskStatus: Hashable, Sendable {
    /// The images are not ready.
    case running
    /// They are, under these URLs; at least one.
    case completed([String])
    /// There will be none, and why in the API's words.
    case failed(code: String?, message: String?)
    /// The API does not know the task.
    case notFound
    /// The task is completed, and where its images are cannot be read.
    case unreadable
    /// The answer says nothing about the task: look again, after that wait at the earliest.
    case noAnswer(retryAfter: Duration?, isTokenRefused: Bool)
}

/// The table of what each answer about a task, and each silence, means: a pure function.
///
/// Looking costs nothing and can be repeated, so that whatever the table does not know is looked at again.
package enum TaskStatusTable {
    /// As of a job's own URLs.
    private static let longestURL = 8192
    /// The API makes at most 6; what is far beyond is no result.
    private static let mostImages = 100

    /// What a sighting means.
    package static func status(of sighting: SubmissionSighting) -> TaskStatus {
        guard case .answered(let answer) = sighting else { return .noAnswer(retryAfter: nil, isTokenRefused: false) }
        let wait = RetryAfter.wait(answer.retryAfter, date: answer.date)
        let text = AnswerText(answer.body)
        guard (200...299).contains(answer.status) else { return status(answer.status, wait) }
        guard let json = text.json else { return .noAnswer(retryAfter: wait, isTokenRefused: false) }
        guard json["status"] == nil, let code = text.envelopeCode else { return status(json, wait) }
        // The API family's envelope within a 200.
        guard code == 200, let data = json["data"] else { return status(code, wait) }
        return status(data, wait)
    }

    private static func status(_ code: Int, _ wait: Duration?) -> TaskStatus {
        switch code {
        case 404: .notFound
        case 401: .noAnswer(retryAfter: wait, isTokenRefused: true)
        default: .noAnswer(retryAfter: wait, isTokenRefused: false)
        }
    }

    private static func status(_ json: JSONValue, _ wait: Duration?) -> TaskStatus {
        switch json["status"]?.text?.lowercased() {
        case "pending", "processing", "waiting", "queuing", "generating": return .running
        case "completed", "success": return images(json["result"]).map { .completed($0) } ?? .unreadable
        case "failed", "fail": return .failed(code: word(json["error_code"]), message: word(json["error_msg"]))
        default: return .noAnswer(retryAfter: wait, isTokenRefused: false)
        }
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
        let lower = url.prefix(9).lowercased()
        let rest = lower.hasPrefix("https://") ? url.dropFirst(8) : lower.hasPrefix("http://") ? url.dropFirst(7) : ""
        return !rest.isEmpty && rest.first != "/"
    }

    private static func word(_ value: JSONValue?) -> String? {
        value?.text ?? value?.exactInteger.map { "\($0)" }
    }
}
