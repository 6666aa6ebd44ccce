package import EditJob
package import SeedreamAPI

/// Puts an outcome into a sentence for the producer: what the API said or did, and what to do.
package enum FailureText {
    private static let longestQuote = 300

    /// The failure of a job whose id another job had.
    package static let conflict = JobFailure(
        .jobIDConflict,
        "Another job was submitted under the same message_id with another content; give each job an id of its own."
    )

    /// The failure of a job whose earlier submission has no known end.
    package static let unfinished = JobFailure(
        .outcomeUnknown,
        "An earlier submission of this job began and its end is not known: it may have been accepted and charged. "
            + "Look for it in the account before replaying it.",
        charged: .maybe
    )

    /// The sentence for an outcome that ends a job; empty for an acceptance.
    package static func text(_ outcome: SubmissionOutcome, sighting: SubmissionSighting, job: EditJob) -> String {
        switch outcome {
        case .accepted:
            return ""
        case .rejected(let rejection):
            let what = rejection.isAboutContent ? "refused the content of the job" : "refused the job"
            return "The API \(what) with status \(rejection.status).\(quote(sighting, job))"
        case .retry(let postponement):
            return "The API put the job off with status \(postponement.status) at every attempt.\(quote(sighting, job))"
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

    /// What the API says for a person, unless it repeats the job: no prompt may get into a header or a log.
    private static func quote(_ sighting: SubmissionSighting, _ job: EditJob) -> String {
        guard case .answered(let answer) = sighting, let message = answer.message, !message.isEmpty,
            !repeats(job, in: message)
        else { return "" }
        let cut = message.unicodeScalars.prefix(longestQuote).filter { !$0.properties.isWhitespace || $0 == " " }
        return " It says: \(String(String.UnicodeScalarView(cut)))"
    }

    /// Whether a message has a run of letters of the job's own text that is too long for chance.
    private static func repeats(_ job: EditJob, in message: String) -> Bool {
        let length = 8
        let text = Array(message.lowercased().unicodeScalars)
        return ([job.prompt] + job.imageURLs)
            .contains { own in
                let own = Array(own.lowercased().unicodeScalars)
                guard own.count > length else {
                    return String(message.lowercased()).contains(String(own.map(Character.init)))
                }
                guard text.count >= length else { return false }
                let runs = Set((0...(own.count - length)).map { Array(own[$0..<($0 + length)]) })
                return (0...(text.count - length)).contains { runs.contains(Array(text[$0..<($0 + length)])) }
            }
    }
}
