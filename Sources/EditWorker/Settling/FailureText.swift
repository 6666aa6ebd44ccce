package import EditJob
import JSON
package import SeedreamAPI

/// Puts an outcome into a sentence for the producer: what the API said or did, and what to do.
package enum FailureText {
    private static let longestQuote = 300

    /// The failure of a job whose requester is gone.
    package static let requesterGone = JobFailure(
        .requesterGone,
        "The requester of the direct reply-to is gone, so nobody would hear of the result; nothing was submitted."
    )

    /// The sentence for an outcome that ends a job; empty for an acceptance.
    ///
    /// Repeats nothing of the job's texts nor of the token; `job` is asked for only if the API has said something.
    package static func text(
        _ outcome: SubmissionOutcome,
        result: SubmissionResult,
        token: String,
        job: () -> EditJob?
    ) -> String {
        var secrets: [String]? { job().map { Self.secrets(of: $0, token) } }
        switch outcome {
        case .accepted:
            return ""
        case .rejected(let rejection):
            let what = rejection.isAboutContent ? "refused the content of the job" : "refused the job"
            return "The API \(what) with status \(rejection.status).\(quote(result, hiding: secrets))"
        case .retry(let postponement):
            let quote = quote(result, hiding: secrets)
            return "The API put the job off with status \(postponement.status) at every attempt.\(quote)"
        case .serviceFault(let fault):
            return "The API cannot take jobs (\(fault.reason.rawValue))."
        case .unknown(let doubt):
            return unknown(doubt)
        }
    }

    private static func unknown(_ doubt: SubmissionOutcome.Doubt) -> String {
        let seen =
            switch doubt.kind {
            case .silent: "The job was sent and the API did not answer"
            case .gateway:
                "The API answered with status \(doubt.status ?? 500), which does not say whether it took the job"
            case .unreadable: "The API said yes without a task id that can be read"
            }
        return "\(seen): it may have been accepted and charged. Look for it in the account before replaying it."
    }

    /// What the API says for a person, unless it repeats a secret: no prompt may get into a header or a log.
    private static func quote(_ result: SubmissionResult, hiding secrets: @autoclosure () -> [String]?) -> String {
        guard case .answered(let answer) = result, let message = answer.message, let secrets = secrets() else {
            return ""
        }
        return quotable(message, hiding: secrets).map { " It says: \($0)" } ?? ""
    }

    /// What the API said, where the table does not understand it, on one line and without the job's own texts; nil where it
    /// says nothing, or nothing unknown.
    static func evidence(
        _ outcome: SubmissionOutcome,
        result: SubmissionResult,
        token: String,
        job: () -> EditJob?
    ) -> String? {
        let isUnderstood =
            switch outcome {
            case .unknown: false
            case .rejected(let rejection): !rejection.isUnfamiliar
            case .accepted(_, let warning): warning != .shape
            case .retry, .serviceFault: true
            }
        guard !isUnderstood, case .answered(let answer) = result, let line = answer.line, let job = job() else {
            return nil
        }
        return evidence(in: line, hiding: secrets(of: job, token))
    }

    private static let longestEvidence = 512

    /// Escapes are read first, since what they hide would not be found; words with those that stay unread are taken out.
    static func evidence(in line: String, hiding secrets: [String]) -> String? {
        var text = line
        for _ in 0..<3 { text = EscapedText.read(text) }
        text = text.split(whereSeparator: \.isWhitespace).map { EscapedText.hasEscape($0) ? "[removed]" : $0 }
            .joined(separator: " ")
        text = JobCopy.cut(RepeatedText.removing(secrets, from: text), to: longestEvidence)
        return text.isEmpty ? nil : text
    }

    /// Words of the API about a job, as a person may read them; nil if they repeat a text of the job or the token.
    static func quotable(_ words: String, of job: EditJob, token: String) -> String? {
        quotable(words, hiding: secrets(of: job, token))
    }

    static func secrets(of job: EditJob, _ token: String) -> [String] {
        [token, job.prompt] + job.imageURLs + job.additionalFields.flatMap(\.texts)
    }

    private static func quotable(_ message: String, hiding secrets: [String]) -> String? {
        let start = message.unicodeScalars.prefix(longestQuote)
        let quote = String(String.UnicodeScalarView(start.filter { !$0.properties.isWhitespace || $0 == " " }))
        guard !quote.isEmpty, !isEscaped(quote), !secrets.contains(where: { RepeatedText.repeats($0, in: quote) })
        else { return nil }
        return quote
    }

    /// Whether a text has escapes, in which anything may stand that the comparison would not see.
    private static func isEscaped(_ text: String) -> Bool {
        ["\\u", "\\x", "&#", "=?"].contains { text.contains($0) }
            || text.matches(of: /%[0-9A-Fa-f]{2}/).count > 0
    }
}

extension JSONMember {
    /// The member's name and all texts in its value.
    fileprivate var texts: [String] { [name] + value.texts }
}

extension JSONValue {
    fileprivate var texts: [String] {
        switch self {
        case .string(let text): [text]
        case .array(let elements): elements.flatMap(\.texts)
        case .object(let members): members.flatMap(\.texts)
        case .null, .boolean, .integer, .real: []
        }
    }
}
