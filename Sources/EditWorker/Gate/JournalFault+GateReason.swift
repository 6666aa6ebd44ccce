package import Journal
package import SeedreamAPI

extension JournalFault {
    /// Why the gate is closed where a job cannot begin.
    package var gateReason: GateReason {
        switch kind {
        case .store: .journal
        case .ledger: .ledger
        case .budget: .budget
        }
    }
}
