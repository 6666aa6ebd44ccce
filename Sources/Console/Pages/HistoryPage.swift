import EditJob
import OperatorTools
import SharedValues

/// What was submitted, as all replicas have written it down.
struct HistoryPage {
    /// A page has no more; the totals are of all.
    static let most = 300

    let since: String
    let job: String?
    let price: String?
    /// Nil if there is no ledger.
    let submissions: [SubmissionRecord]?
    let fault: String?
    let layout: Layout

    var html: HTML {
        layout.page("History", at: .history, "\(form)\(content)")
    }

    private var form: HTML {
        """
        <form class="filter" action="/history">
        <div><label for="h-since">Submitted since</label><input id="h-since" name="since" value="\(since)" placeholder="24h, 3d"></div>
        <div><label for="h-job">Job id</label><input id="h-job" name="job" value="\(job ?? "")" autocomplete="off"></div>
        <div><label for="h-price">Price of an image</label><input id="h-price" name="price" value="\(price ?? "")"
        inputmode="decimal" placeholder="0.025"></div><button>Show</button></form>
        """
    }

    private var content: HTML {
        if let fault { return Layout.fault(fault) }
        guard let submissions else {
            return Layout.empty("There is no ledger. Workers with journal.store=ledger write down what they submit.")
        }
        guard !submissions.isEmpty else { return Layout.empty("Nothing was submitted in this time.") }
        let totals = LedgerHistory.totals(of: submissions)
        func count(_ result: SubmissionRecord.Result) -> Int { totals.count[result] ?? 0 }
        let price = price.flatMap { Double($0) }.flatMap { ImagePrice($0) }
        let cards: [(String, HTML, String, Bool)] = [
            ("Submitted", "\(count(.submitted))", "accepted by the API", false),
            (
                "Images", "\(totals.images)",
                price.map { "about \($0.text(totals.images))" } ?? "at most, of those accepted", false
            ),
            ("Refused", "\(count(.refused))", "not charged", false),
            (
                "Unknown", "\(count(.unknown))",
                totals.imagesInDoubt > 0
                    ? "\(totals.imagesInDoubt) images\(price.map { ", about \($0.text(totals.imagesInDoubt))" } ?? ""), perhaps charged"
                    : "every outcome is known", count(.unknown) > 0
            ),
        ]
        let items = cards.map { title, number, words, calls -> HTML in
            "<li\(calls ? " class=\"calls\"" : "" as HTML)><strong>\(number)</strong><span>\(title)</span><small>\(words)</small></li>"
        }
        let rows = submissions.suffix(Self.most).reversed()
            .map { submission -> [HTML] in
                let result = submission.result.rawValue + (submission.followed.map { ", \($0)" } ?? "")
                return [
                    "<time>\(submission.submittedAt.description)</time>",
                    "<a href=\"\(FormData.address("/job", [("id", submission.jobID)]))\">\(submission.jobID.cut(to: 80))</a>",
                    submission.result == .unknown ? "<span class=\"calls\">\(result)</span>" : "\(result)",
                    "\(submission.taskID ?? submission.code ?? "–")", "\(submission.images)", "\(submission.charged)",
                    "\(submission.worker)",
                ]
            }
        let hint: HTML =
            submissions.count > Self.most
            ? "<p class=\"hint\">The newest \(Self.most) of \(submissions.count); the sums are of all. seedream-worker history lists them all.</p>"
            : "<p class=\"hint\">Newest first.</p>"
        return """
            <ul class="cards">\(items)</ul>\(hint)
            \(Layout.table("Submissions", ["Submitted", "Job", "Result", "Task or code", "Images", "Charged", "Worker"], rows, numbers: ["Images"]))
            """
    }
}
