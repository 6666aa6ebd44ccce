import EditJob
package import SharedValues

/// Which dead letters a command is about.
package struct DeadLetterFilter: Sendable {
    /// Only those with one of these codes; all if it is empty.
    package var codes: Set<String>
    /// Only the jobs with one of these ids; all if it is empty.
    package var jobs: Set<String>
    /// Only those that have failed since.
    package var since: Timestamp?
    /// Only those that had failed by then; nil for all.
    package var until: Timestamp?
    /// Only the letters with one of these marks; all if it is empty.
    package var marks: Set<String> = []

    /// A filter that all pass.
    package init(codes: Set<String> = [], jobs: Set<String> = [], since: Timestamp? = nil) {
        self.codes = codes
        self.jobs = jobs
        self.since = since
    }

    /// Whether it lets everything pass.
    package var isEmpty: Bool { codes.isEmpty && jobs.isEmpty && since == nil && until == nil && marks.isEmpty }

    /// Whether a dead letter is one of those; one without a date is never newer than a time.
    package func takes(_ letter: DeadLetter) -> Bool {
        if !codes.isEmpty, !codes.contains(letter.code) { return false }
        if !jobs.isEmpty, !jobs.contains(letter.jobID) { return false }
        if let since, letter.failedAt.map({ $0 < since }) ?? true { return false }
        if let until, let failedAt = letter.failedAt, failedAt > until { return false }
        // Last: it reads the body.
        return marks.isEmpty || marks.contains(letter.mark)
    }
}
