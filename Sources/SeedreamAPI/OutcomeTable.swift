import JSON

/// The table of what each answer, and each silence, means: a pure function, one row a rule.
///
/// What the table does not know is taken for the worse of what it may be.
package enum OutcomeTable {
    /// A task id that is longer is no task id.
    private static let longestTaskID = 256

    /// What the result of a submission means.
    package static func outcome(of result: SubmissionResult) -> SubmissionOutcome {
        switch result {
        case .answered(let answer): outcome(of: answer)
        case .failed(.nameNotResolved): fault(.dns)
        case .failed(.notConnected), .failed(.notWritten): fault(.connect)
        case .failed(.proxy(let words)): .serviceFault(.init(reason: .connect, cause: .proxy(words)))
        case .failed(.outOfFiles): .serviceFault(.init(reason: .connect, cause: .outOfFiles))
        case .failed(.tls): fault(.tls)
        case .failed(.timedOut), .failed(.connectionEnded), .failed(.cancelled): doubt(.silent)
        }
    }

    private static func outcome(of answer: APIAnswer) -> SubmissionOutcome {
        if (200...299).contains(answer.status), let taskID = plainTaskID(answer.body) {
            return .accepted(taskID: taskID, nil)
        }
        let text = AnswerText(answer.body)
        let wait = RetryAfter.wait(answer.retryAfter, date: answer.date)
        guard (200...299).contains(answer.status) else {
            return outcome(status: answer.status, text: text, wait: wait)
        }
        let code = text.envelopeCode
        let isError = code.map { (300...599).contains($0) } ?? false
        let ids = text.taskIDs
        if ids.count == 1, let taskID = ids.first, isUsable(taskID), !isError {
            return .accepted(taskID: taskID, warning(text, taskID))
        }
        // An id beside an error, or two of them: paid for, perhaps.
        guard answer.status == 200, ids.isEmpty, isError, let code else {
            return doubt(.unreadable, status: answer.status)
        }
        // A gateway that waited in vain says 408 of its own request to the origin: that one may have arrived.
        guard code != 408 else { return doubt(.silent, status: 408) }
        return outcome(status: code, text: text, wait: wait)
    }

    /// What is odd about the only task id of an answer.
    private static func warning(_ text: AnswerText, _ taskID: String) -> SubmissionOutcome.AcceptanceWarning? {
        guard text.json?["task_id"]?.text == taskID else { return .shape }
        return isUUID(taskID.utf8.span) ? nil : .taskIDIsNoUUID
    }

    /// The rows for a status other than success, from the status line or from an envelope within a 200.
    private static func outcome(status: Int, text: AnswerText, wait: Duration?) -> SubmissionOutcome {
        func fault(_ reason: GateReason, leastDelay: Duration? = nil) -> SubmissionOutcome {
            .serviceFault(.init(reason: reason, status: status, retryAfter: wait, leastDelay: leastDelay))
        }
        func rejected(aboutContent: Bool = false, isUnfamiliar: Bool = false) -> SubmissionOutcome {
            .rejected(.init(isAboutContent: aboutContent, status: status, isUnfamiliar: isUnfamiliar))
        }
        func retry(mostAttempts: Int? = nil) -> SubmissionOutcome {
            .retry(.init(status: status, retryAfter: wait, mostAttempts: mostAttempts))
        }
        switch status {
        case 300...399: return fault(.redirect)
        case 400, 413, 422: return rejected(aboutContent: text.speaksOfContent, isUnfamiliar: !text.isOfAPI)
        case 401: return fault(.auth)
        case 402: return fault(.credits)
        case 433: return fault(.quota)
        case 403: return fault(.forbidden)
        case 404, 405, 406, 410, 411, 414, 415, 426, 431: return fault(.endpoint)
        case 408, 425: return retry()
        case 409: return retry(mostAttempts: 3)
        case 429: return fault(.rateLimited, leastDelay: wait == nil ? .seconds(10) : nil)
        case 451: return rejected(aboutContent: true)
        case 455: return fault(.maintenance)
        case 499: return doubt(.silent, status: status, wait: wait)
        case 400...499: return rejected(isUnfamiliar: true)
        case 501: return text.isOfAPI ? rejected() : fault(.endpoint)
        case 503 where text.isOfAPI: return fault(.unavailable)
        // A proxy's: the origin may have accepted the job before the connection to it ended.
        case 503: return .unknown(.init(kind: .gateway, status: status, retryAfter: wait, isOfUnavailableService: true))
        case 505: return fault(.featureDisabled)
        case 521, 522, 523, 525, 526, 530: return fault(.originDown)
        case 500...599: return doubt(.gateway, status: status, wait: wait)
        default: return doubt(.silent, status: status)
        }
    }

    private static func fault(_ reason: GateReason) -> SubmissionOutcome {
        .serviceFault(.init(reason: reason))
    }

    private static func doubt(
        _ kind: SubmissionOutcome.Doubt.Kind,
        status: Int? = nil,
        wait: Duration? = nil
    ) -> SubmissionOutcome {
        .unknown(.init(kind: kind, status: status, retryAfter: wait))
    }

    private static func isUsable(_ taskID: String) -> Bool {
        // Counting scalars takes a while, and no text has more of them than bytes.
        taskID.utf8.count <= longestTaskID || taskID.unicodeScalars.count <= longestTaskID
    }

    /// The task id of an answer that has nothing else in it, byte for byte, as nearly every answer: reading it as JSON
    /// took 4 % of a job's instructions.
    private static func plainTaskID(_ body: APIAnswer.Body) -> String? {
        guard case .complete(let bytes) = body else { return nil }
        for prefix in [#"{"task_id":""#, #"{"task_id": ""#] as [StaticString] {
            let start = prefix.utf8CodeUnitCount
            guard bytes.count == start + 38, bytes[start + 36] == UInt8(ascii: "\""),
                bytes[start + 37] == UInt8(ascii: "}"),
                unsafe bytes.starts(with: UnsafeBufferPointer(start: prefix.utf8Start, count: start)),
                isUUID(bytes.span.extracting(start..<(start + 36)))
            else { continue }
            return String(decoding: bytes[start..<(start + 36)], as: UTF8.self)
        }
        return nil
    }

    /// RFC 9562 §4: 8-4-4-4-12 hexadecimal digits.
    private static func isUUID(_ bytes: Span<UInt8>) -> Bool {
        guard bytes.count == 36 else { return false }
        for index in bytes.indices {
            let isHyphen = index == 8 || index == 13 || index == 18 || index == 23
            switch bytes[index] {
            case UInt8(ascii: "-"): guard isHyphen else { return false }
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
                UInt8(ascii: "A")...UInt8(ascii: "F"):
                guard !isHyphen else { return false }
            default: return false
            }
        }
        return true
    }
}
