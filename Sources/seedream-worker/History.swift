import ArgumentParser
import EditJob
import EditWorker
import Glibc
import JSON
import Journal
import Ledger
import OperatorTools
import RabbitMQ
import Settings
import SharedValues

/// `history`: what was submitted, as all replicas have written it down.
struct History: BrokerCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what was submitted: when, by whom, how it ended, and what it came to.",
        discussion: """
            Example: seedream-worker history --since 24h --price 0.025

            Reads the ledger (journal.store=ledger), as far back as journal.retention reaches. Prompts and image URLs are \
            never in it.
            """
    )

    @Option(help: ArgumentHelp("Only the job with this id, and corrections of it. Can be repeated.", valueName: "id"))
    var job: [String] = []

    @Option(
        help: ArgumentHelp(
            "Only what was submitted since then, such as 2h, 3d or 2026-01-31T08:00:00Z.",
            valueName: "time"
        )
    )
    var since: String?

    @Option(
        help: ArgumentHelp("The price of an image, for an estimate of what was spent.", valueName: "amount")
    )
    var price: Double?

    @Option(help: "The form of the output: a table, or one JSON object per line, the totals last.")
    var format = OutputFormat.text

    @OptionGroup
    var limits: CommandLimits

    @OptionGroup
    var settings: SettingFlags<BrokerSettings>

    func validate() throws {
        if let since, Timestamp(ago: since, before: .now) == nil {
            throw ValidationError(
                "--since '\(since)' is neither a duration such as 2h nor a time such as 2026-01-31T08:00:00Z"
            )
        }
        if let price, ImagePrice(price) == nil { throw ValidationError("--price must be a number from 0") }
    }

    func run() async throws {
        let settings = try settings.read().settings
        let stream = settings.queues.ledger
        try await BrokerSession.reporting {
            let connection = try await BrokerSession.open(settings, for: "history")
            var history = LedgerHistory()
            var progress = ProgressLine("read")
            var read = 0
            do throws(AMQPError) {
                try await LedgerReader.read(stream, on: connection) { message, offset in
                    history.read(message, at: offset)
                    read += 1
                    progress.show(read)
                }
            } catch {
                progress.clear()
                await connection.close()
                guard error.code == .notFound else { throw error }
                Output.error(
                    "seedream-worker: there is no ledger \(stream); workers write one with journal.store=ledger"
                )
                throw ExitCode(ExitStatus.unavailable)
            }
            progress.clear()
            await connection.close()
            let meant = job.isEmpty ? history.submissions : LedgerHistory.story(of: Set(job), in: history.submissions)
            show(meant.filter(isRecent))
        }
    }

    private func isRecent(_ submission: SubmissionRecord) -> Bool {
        guard let since = since.flatMap({ Timestamp(ago: $0, before: .now) }) else { return true }
        return submission.submittedAt >= since
    }

    private func show(_ submissions: [SubmissionRecord]) {
        let totals = LedgerHistory.totals(of: submissions)
        guard format == .text else {
            for submission in submissions { Output.result(String(decoding: submission.json.encoded(), as: UTF8.self)) }
            Output.result(String(decoding: json(totals).encoded(), as: UTF8.self))
            return
        }
        let rows = submissions.map { submission in
            [
                submission.submittedAt.description, Self.name(submission),
                submission.result.rawValue + (submission.followed.map { ", \(Terminal.plain($0))" } ?? ""),
                Terminal.plain(submission.taskID ?? submission.code ?? "-"), "\(submission.images)", submission.charged,
                Terminal.plain(submission.worker),
            ]
        }
        if !rows.isEmpty {
            let heading = ["SUBMITTED", "JOB", "RESULT", "TASK OR CODE", "IMAGES", "CHARGED", "WORKER"]
            for line in Terminal(STDOUT_FILENO).table([heading] + rows) { Output.result(line) }
        }
        Output.result(summary(totals))
    }

    private static func name(_ submission: SubmissionRecord) -> String {
        let from = submission.editedFrom.map { " (corrected from \(Terminal.plain($0)))" } ?? ""
        return Terminal.plain(submission.jobID) + from
    }

    /// The totals in a sentence.
    private func summary(_ totals: LedgerHistory.Totals) -> String {
        func count(_ result: SubmissionRecord.Result) -> Int { totals.count[result] ?? 0 }
        var parts = [
            "\(count(.submitted)) submitted", "\(totals.images) images", "\(count(.refused)) refused",
            "\(count(.unknown)) unknown",
        ]
        if count(.returned) > 0 { parts.append("\(count(.returned)) returned") }
        if count(.running) > 0 { parts.append("\(count(.running)) running") }
        if let price = price.flatMap({ ImagePrice($0) }) {
            let doubt = totals.imagesInDoubt > 0 ? " and perhaps \(price.text(totals.imagesInDoubt)) more" : ""
            parts.append("about \(price.text(totals.images))\(doubt)")
        }
        return parts.joined(separator: ", ")
    }

    private func json(_ totals: LedgerHistory.Totals) -> JSONValue {
        var members = SubmissionRecord.Result.allCases.map { result in
            JSONMember(result.rawValue, .integer(Int64(totals.count[result] ?? 0)))
        }
        members.append(JSONMember("images", .integer(Int64(totals.images))))
        members.append(JSONMember("images_in_doubt", .integer(Int64(totals.imagesInDoubt))))
        if let price = price.flatMap({ ImagePrice($0) }) {
            members.append(JSONMember("estimate", .real(price.estimate(totals.images))))
        }
        return .object([JSONMember("totals", .object(members))])
    }
}
