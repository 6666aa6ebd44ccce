import Journal
import Ledger
import OperatorTools
import Testing

struct LedgerHistoryTests {
    /// The history of jobs that began one after the other, each with the one that it was made from.
    private static func history(_ jobs: [(id: String, from: String?)]) -> [SubmissionRecord] {
        var history = LedgerHistory()
        for (number, job) in jobs.enumerated() {
            var request = JournalRequest(id: job.id, digest: BodyDigest(Array(job.id.utf8)))
            request.editedFrom = job.from
            let message = LedgerMessage(
                replica: "r",
                writer: "h:1",
                number: Int64(number),
                at: 1_700_000_000_000,
                records: [.begin(request)]
            )
            history.read(message, at: Int64(number))
        }
        return history.submissions
    }

    @Test(arguments: ["a", "b", "c"]) func `a job and its corrections are one story`(_ job: String) {
        let all = Self.history([("x", nil), ("a", nil), ("b", "a"), ("y", "x"), ("c", "b")])
        #expect(LedgerHistory.story(of: [job], in: all).map(\.jobID) == ["a", "b", "c"])
    }

    @Test func `what was never submitted leads to its correction all the same`() {
        let all = Self.history([("b", "a"), ("c", "b"), ("z", nil)])
        #expect(LedgerHistory.story(of: ["a"], in: all).map(\.jobID) == ["b", "c"])
        #expect(LedgerHistory.story(of: ["none"], in: all).isEmpty)
    }
}
