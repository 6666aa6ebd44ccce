import Ledger
import OperatorTools
import SeedreamAPI
import SharedValues

/// The fleet's part of `doctor`: why workers that live submit nothing.
enum FleetExamination {
    static func findings(_ fleet: FleetView, isTokenTaken: Bool?) -> [Finding] {
        var findings: [Finding] = []
        if let reason = fleet.pausedFor {
            let who = fleet.pause.map { " by \($0.writer) since \(Timestamp(milliseconds: $0.at))" } ?? ""
            let why = reason.isEmpty ? "" : ": \(reason)"
            findings.append(
                .warning("fleet", "is paused\(who)\(why)", remedy: "to go on: seedream-worker fleet resume")
            )
        }
        let closed = Dictionary(grouping: fleet.replicas.filter { $0.report?.gate != nil }) { $0.report?.gate ?? "" }
        for (gate, replicas) in closed.sorted(by: { $0.key < $1.key }) where gate != GateReason.paused.rawValue {
            // The API has just refused this one's token too, which is said there.
            guard gate != GateReason.auth.rawValue || isTokenTaken != false else { continue }
            let count = "\(replicas.count) of \(fleet.replicas.count) workers"
            let reason = GateReason(rawValue: gate)
            let message = "nothing is submitted by \(count): \(gate)"
            let remedy = reason?.remedy ?? "see the worker's log"
            switch reason {
            // They pass by themselves, or with time.
            case .rateLimited, .budget, .ledger: findings.append(.warning("fleet", message, remedy: remedy))
            default: findings.append(.fault("fleet", message, remedy: remedy))
            }
        }
        if findings.isEmpty {
            let count = fleet.replicas.count
            findings.append(.ok("fleet", count == 1 ? "1 worker lives" : "\(count) workers live"))
        }
        return findings
    }
}
