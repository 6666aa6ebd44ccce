import EditJob
import Journal
import Ledger
import OperatorTools
import SharedValues

extension FleetView {
    /// For people: who, from when on, at what, and what is left.
    func lines(_ terminal: Terminal) -> [String] {
        var lines: [String] = []
        if let pausedFor {
            let why = pausedFor.isEmpty ? "" : ": \(Terminal.plain(pausedFor))"
            let who = pause.map { " (\(Terminal.plain($0.writer)), \(Timestamp(milliseconds: $0.at)))" } ?? ""
            lines.append(terminal.yellow("paused\(why)\(who)"))
        }
        if let closure { lines.append(terminal.yellow("closed for all: \(Terminal.plain(closure.reason))")) }
        if let rate = latest?.rate { lines.append("rate    \(rate.used) of \(Terminal.plain(rate.limit)) used") }
        if let budget = latest?.budget {
            lines.append("budget  \(budget.used) images of \(Terminal.plain(budget.limit)) used")
        }
        guard !replicas.isEmpty else { return lines + ["no replica lives"] }
        let rows = replicas.map { replica in
            [
                Terminal.plain(replica.writer),
                Terminal.plain(replica.version ?? "-"),
                replica.report.map { Timestamp(milliseconds: $0.since).description } ?? "-",
                replica.report.map { "\($0.inFlight)" } ?? "-",
                Terminal.plain(replica.report.map { $0.gate ?? "open" } ?? "-"),
                "\(ShortDuration.text(.milliseconds(now.milliseconds - replica.lastSeen.milliseconds))) ago",
            ]
        }
        return lines + terminal.table([["REPLICA", "VERSION", "SINCE", "IN FLIGHT", "GATE", "LAST SEEN"]] + rows)
    }
}
