import EditJob
import Journal
package import Ledger
import SharedValues

/// What was submitted, put together from the messages of a ledger in their order.
package struct LedgerHistory: Sendable {
    package struct Totals: Hashable, Sendable {
        /// Submissions by how they ended.
        package var count: [SubmissionRecord.Result: Int] = [:]
        /// Images of those that were accepted.
        package var images = 0
        /// Images of those whose outcome is unknown.
        package var imagesInDoubt = 0
    }

    private var state = LedgerState(retention: .max)
    /// In the order of their beginning.
    package private(set) var submissions: [SubmissionRecord] = []
    /// The last submission of each job, by its place.
    private var last: [String: Int] = [:]
    /// What the replicas know together beside their jobs.
    package var fleet: FleetState { state.fleet }

    package init() {}

    /// Takes in the next message.
    package mutating func read(_ message: LedgerMessage, at offset: Int64) {
        guard !state.hasApplied(message) else { return }
        var answers = state.apply(message, at: offset).makeIterator()
        for record in message.records {
            switch record {
            case .begin(let request):
                guard answers.next()?.hasBegun == true else { continue }
                last[request.id] = submissions.count
                submissions.append(SubmissionRecord(request, message))
            case .end(let id, let end): self.end(id, end, message)
            case .abandon(let id, let begun): abandon(id, begun, message)
            case .followed(let id, let taskID, let code):
                guard let place = submissions.lastIndex(where: { $0.jobID == id && $0.taskID == taskID }) else {
                    continue
                }
                submissions[place].followed = code ?? "completed"
            case .hello, .bye, .settled, .withdrawn, .cancel, .lift, .gap, .known, .slots, .closed, .probe, .opened,
                .pause, .resume, .alive, .unknown:
                break
            }
        }
    }

    private mutating func end(_ id: String, _ end: JobEnd, _ message: LedgerMessage) {
        // The replica's own, which is the last one unless that was abandoned meanwhile.
        guard
            let place = last[id]
                .flatMap({ last in
                    submissions[last].begun.replica == message.replica
                        ? last : submissions.lastIndex { $0.jobID == id && $0.begun.replica == message.replica }
                })
        else { return }
        submissions[place].endedAt = Timestamp(milliseconds: message.at)
        switch end.verdict {
        case .accepted(let taskID, let at):
            // The moment that the replies say.
            if let at, at <= submissions[place].endedAt ?? at { submissions[place].submittedAt = at }
            submissions[place].result = .submitted
            submissions[place].taskID = taskID
            submissions[place].code = nil
        case .refused(let failure):
            submissions[place].result = .refused
            submissions[place].code = failure.code.rawValue
        case .unknown(let failure):
            submissions[place].result = .unknown
            submissions[place].code = failure.code.rawValue
        case .retry, .givenBack: submissions[place].result = end.mayBeDuplicate ? .unknown : .returned
        }
    }

    private mutating func abandon(_ id: String, _ begun: LedgerMessage.ID, _ message: LedgerMessage) {
        guard let place = last[id], submissions[place].begun == begun, submissions[place].result == .running else {
            return
        }
        submissions[place].result = .unknown
        submissions[place].code = JobFailure.Code.outcomeUnknown.rawValue
        submissions[place].endedAt = Timestamp(milliseconds: message.at)
    }

    /// The submissions of some jobs, of those that they were made from by corrections, and of those that were made from them.
    package static func story(of jobs: Set<String>, in submissions: [SubmissionRecord]) -> [SubmissionRecord] {
        var jobs = jobs
        // In their order a job comes before those that are made from it; once more for those that lead back.
        for _ in 0..<2 {
            for submission in submissions {
                guard let before = submission.editedFrom, jobs.contains(before) || jobs.contains(submission.jobID)
                else {
                    continue
                }
                jobs.formUnion([before, submission.jobID])
            }
            for submission in submissions.reversed() {
                guard let before = submission.editedFrom, jobs.contains(submission.jobID) else { continue }
                jobs.insert(before)
            }
        }
        return submissions.filter { jobs.contains($0.jobID) }
    }

    /// The sums over some of the submissions.
    package static func totals(of submissions: some Sequence<SubmissionRecord>) -> Totals {
        var totals = Totals()
        for submission in submissions {
            totals.count[submission.result, default: 0] += 1
            switch submission.result {
            case .submitted: totals.images += submission.images
            case .unknown: totals.imagesInDoubt += submission.images
            case .refused, .returned, .running: break
            }
        }
        return totals
    }
}
