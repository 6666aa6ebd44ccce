import NIOConcurrencyHelpers
package import SeedreamAPI
package import Telemetry

/// What a worker has and lacks at the moment, for readiness and metrics.
///
/// From any thread.
package final class WorkerHealth: Sendable {
    private struct State {
        var connected: Set<BrokerRole> = []
        var seen: Set<BrokerRole> = []
        var faults: [BrokerRole: String] = [:]
        var blocked: [BrokerRole: String] = [:]
        var isConsuming = false
        var isDraining = false
        /// What else is missing, and why.
        var others: [String: String] = [:]
    }

    private let state = NIOLockedValueBox(State())
    private let metrics: WorkerMetrics
    private let roles: [BrokerRole]
    private let ledgerProgress: @Sendable () -> Int?

    /// A worker that has nothing yet and needs connections for `roles`.
    ///
    /// `ledgerProgress` tells how much of the ledger was read, in percent; nil once all was, or if there is none.
    package init(
        metrics: WorkerMetrics,
        roles: [BrokerRole] = [.consumer, .publisher],
        ledgerProgress: @escaping @Sendable () -> Int? = { nil }
    ) {
        self.metrics = metrics
        self.roles = roles
        self.ledgerProgress = ledgerProgress
    }

    /// What is missing for jobs to go through, in the order of a job's way; empty if all is well.
    package func missing(gate: GateReason?) -> [HealthServer.Missing] {
        state.withLockedValue { state in
            var missing: [HealthServer.Missing] = []
            for role in roles where !state.connected.contains(role) {
                missing.append(.init("\(role.rawValue) connection", reason: state.faults[role]))
            }
            if let progress = ledgerProgress() { missing.append(.init("ledger", reason: "ledger: \(progress) %")) }
            // A closed gate takes the consumer away on purpose.
            if !state.isConsuming, gate == nil { missing.append(.init("consumer registered", reason: nil)) }
            for role in roles {
                if let reason = state.blocked[role] { missing.append(.init("not blocked", reason: reason)) }
            }
            missing += state.others.sorted { $0.key < $1.key }.map { .init($0.key, reason: $0.value) }
            if let gate { missing.append(.init("gate", reason: gate.rawValue)) }
            if state.isDraining { missing.append(.init("not draining", reason: nil)) }
            return missing
        }
    }

    /// A connection is there.
    func connected(_ role: BrokerRole) {
        let isFirst = state.withLockedValue { state in
            state.connected.insert(role)
            state.faults[role] = nil
            return state.seen.insert(role).inserted
        }
        metrics.connected(role, true, isFirst: isFirst)
    }

    /// A connection is gone, or could not be made.
    func lost(_ role: BrokerRole, fault: String?) {
        state.withLockedValue { state in
            state.connected.remove(role)
            state.blocked[role] = nil
            state.faults[role] = fault ?? state.faults[role]
        }
        metrics.connected(role, false)
        metrics.blocked(role, false)
    }

    /// The broker blocks a connection for a reason, or with nil no longer.
    func blocked(_ role: BrokerRole, _ reason: String?) {
        state.withLockedValue { $0.blocked[role] = reason }
        metrics.blocked(role, reason != nil)
    }

    /// The consumer is registered, or no longer.
    func consuming(_ isConsuming: Bool) {
        state.withLockedValue { $0.isConsuming = isConsuming }
    }

    /// Something else that jobs wait for is missing for a reason, or with nil no longer.
    package func note(missing what: String, _ reason: String?) {
        state.withLockedValue { $0.others[what] = reason }
    }

    /// No more jobs are taken.
    func draining() {
        state.withLockedValue { $0.isDraining = true }
    }
}
