import AMQP
import EditJob
import JSON
import Journal
import SharedValues

/// The fleet as a person looks at it.
struct FleetView {
    /// A replica that lives.
    private struct Replica {
        let writer: String
        let greeting: LedgerGreeting?
        let report: LedgerReport?
        let lastSeen: Timestamp
    }

    private let replicas: [Replica]
    private let pause: FleetState.Pause?
    private let pausedFor: String?
    private let closure: FleetState.Closure?
    private let now: Timestamp

    /// Each replica reports every 30 seconds; a longer look back finds those that are late.
    private static let lookBack: Int64 = 120

    /// Reads what the replicas have said of themselves, and asks the broker which of them live.
    static func read(_ stream: ByteString, on connection: AMQPConnection) async throws(AMQPError) -> FleetView {
        _ = try await connection.inspect(queue: stream)
        var fleet = FleetState()
        let from = UInt64(max(0, Timestamp.now.seconds - lookBack))
        try await LedgerReader.read(stream, from: .time(from), on: connection) { fleet.read($0, at: $1) }
        if fleet.members.values.allSatisfy({ $0.report == nil }) {
            // Nobody has reported lately: what was said before still holds.
            fleet = FleetState()
            try await LedgerReader.read(stream, on: connection) { fleet.read($0, at: $1) }
        }
        var replicas: [Replica] = []
        for (name, member) in fleet.members
        where await SignOfLife.isSeen(of: name, in: stream, on: connection) == true {
            let lastSeen = Timestamp(milliseconds: member.lastSeen)
            replicas.append(
                Replica(
                    writer: member.writer,
                    greeting: member.greeting,
                    report: member.report,
                    lastSeen: lastSeen
                )
            )
        }
        return FleetView(replicas.sorted { $0.writer < $1.writer }, fleet)
    }

    private init(_ replicas: [Replica], _ fleet: FleetState) {
        self.replicas = replicas
        pause = fleet.pause
        closure = fleet.closure
        // The order itself may stand further back than was read, unless it was taken back since.
        pausedFor = fleet.pause?.reason ?? (fleet.wasResumed ? nil : replicas.lazy.compactMap(\.report?.paused).first)
        now = .now
    }

    private var latest: LedgerReport? {
        replicas.filter { $0.report != nil }.max { $0.lastSeen < $1.lastSeen }?.report
    }

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
                Terminal.plain(replica.report?.version ?? replica.greeting?.version ?? "-"),
                replica.report.map { Timestamp(milliseconds: $0.since).description } ?? "-",
                replica.report.map { "\($0.inFlight)" } ?? "-",
                Terminal.plain(replica.report.map { $0.gate ?? "open" } ?? "-"),
                "\(ShortDuration.text(.milliseconds(now.milliseconds - replica.lastSeen.milliseconds))) ago",
            ]
        }
        return lines + terminal.table([["REPLICA", "VERSION", "SINCE", "IN FLIGHT", "GATE", "LAST SEEN"]] + rows)
    }

    var json: JSONValue {
        var members = [
            JSONMember("paused", .boolean(pausedFor != nil)),
            JSONMember(
                "replicas",
                .array(
                    replicas.map { replica in
                        var members = [
                            JSONMember("replica", .string(replica.writer)),
                            JSONMember("last_seen", .string(replica.lastSeen.description)),
                        ]
                        if let version = replica.report?.version ?? replica.greeting?.version {
                            members.append(JSONMember("version", .string(version)))
                        }
                        if let report = replica.report {
                            let since = Timestamp(milliseconds: report.since).description
                            members.append(JSONMember("since", .string(since)))
                            members.append(JSONMember("in_flight", .integer(Int64(report.inFlight))))
                            members.append(JSONMember("gate", .string(report.gate ?? "open")))
                        }
                        return .object(members)
                    }
                )
            ),
        ]
        if let pausedFor { members.append(JSONMember("reason", .string(pausedFor))) }
        if let pause { members.append(JSONMember("paused_by", .string(pause.writer))) }
        if let closure { members.append(JSONMember("closed", .string(closure.reason))) }
        if let rate = latest?.rate { members.append(JSONMember("rate", rate.json)) }
        if let budget = latest?.budget { members.append(JSONMember("budget", budget.json)) }
        return .object(members)
    }
}
