package import JSON
package import Ledger
package import RabbitMQ
package import SharedValues

/// The fleet as a person looks at it.
package struct FleetView: Sendable {
    /// A replica that lives.
    package struct Replica: Sendable {
        /// `HOST:PID`.
        package let writer: String
        let greeting: LedgerGreeting?
        /// What it last said of itself; nil if it has only greeted.
        package let report: LedgerReport?
        package let lastSeen: Timestamp

        /// Whether records of a broker user count for it; as far as it has said.
        func hears(_ user: String) -> Bool {
            guard let own = report?.user ?? greeting?.settings["amqp.user"] else { return true }
            let others = (report?.writers ?? greeting?.settings["journal.writers"])?.split(separator: ",")
            return LedgerWriters(user: own, others: others?.map { WildcardPattern($0) } ?? []).counts(user)
        }

        /// Nil if it has not said.
        package var version: String? { report?.version ?? greeting?.version }
    }

    package let replicas: [Replica]
    /// The order to pause, if it was read; `pausedFor` says whether they pause.
    package let pause: FleetState.Pause?
    /// The message that has paused the fleet; nil if it is not, or it is unknown.
    package var pausedBy: LedgerMessage.ID? {
        pause?.message ?? (pausedFor == nil ? nil : replicas.lazy.compactMap(\.report?.pause).first)
    }

    /// Why the fleet is paused, empty without a reason; nil if it is not.
    package let pausedFor: String?
    /// Why the gate is closed for all; nil if it is not.
    package let closure: FleetState.Closure?
    /// When this was read.
    package let now: Timestamp

    /// Each replica reports every ten seconds; a longer look back finds the order that they follow.
    private static let lookBack: Int64 = 120
    /// A replica that was silent for longer is not shown, in milliseconds.
    package static let longestSilence: Int64 = 30_000

    /// Reads what the replicas have said of themselves, without asking them.
    ///
    /// The error is `notFound` if there is no ledger.
    package static func read(
        _ stream: ByteString,
        on connection: AMQPConnection
    ) async throws(AMQPError) -> FleetView {
        _ = try await connection.inspect(queue: stream)
        let from = UInt64(max(0, Timestamp.now.seconds - lookBack))
        var (messages, user): ([(message: LedgerMessage, user: String?)], String?) = ([], nil)
        func hear(writer: String?) { user = writer }
        try await LedgerReader.read(stream, from: .time(from), on: connection, writer: hear) { message, _ in
            messages.append((message, user))
        }
        var fleet = messages.reduce(into: FleetState()) { $0.read($1.message) }
        // What others write has no effect on them.
        let living = view(of: fleet)
        fleet = messages.reduce(into: FleetState()) { if living.counts($1.user) { $0.read($1.message) } }
        if fleet.members.values.allSatisfy({ $0.report == nil }) {
            // Without recent reports what was said before still holds.
            fleet = FleetState()
            try await LedgerReader.read(stream, on: connection) { message, _ in fleet.read(message) }
        }
        return view(of: fleet)
    }

    private static func view(of fleet: FleetState) -> FleetView {
        var replicas: [Replica] = []
        let now = Timestamp.now.milliseconds
        for member in fleet.members.values where now - member.lastSeen < longestSilence {
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

    /// Whether records of a broker user count, as far as a replica that lives has said; without any, all do.
    func counts(_ user: String?) -> Bool { replicas.isEmpty || replicas.contains { $0.hears(user ?? "") } }

    /// The newest report, for what all know together.
    package var latest: LedgerReport? {
        replicas.filter { $0.report != nil }.max { $0.lastSeen < $1.lastSeen }?.report
    }

    /// The view for programs.
    package var json: JSONValue {
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
                        if let version = replica.version {
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
