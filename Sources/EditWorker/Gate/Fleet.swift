package import Ledger

/// The other replicas, as the gate of one meets them.
package protocol Fleet: Sendable {
    /// Whether starts wait for a rate limit of all replicas together.
    var limitsStarts: Bool { get }
    /// Whether a job may start, one of `waiting` that wait; never `ask`.
    func turn(waiting: Int) -> FleetSlots.Turn
    /// What other replicas, or people, tell the fleet; for one reader.
    var changes: AsyncStream<FleetChange> { get }
    /// Says why this replica submits nothing, for its reports; nil while it does.
    func tellGate(_ reason: String?)
    /// Announces that the account is closed for `delay`.
    func tellClosed(_ reason: String, for delay: Duration, isHeld: Bool)
    /// Tells that the account takes jobs again.
    func tellOpened()
    /// Whether this replica may be the one that tries whether the account takes jobs again.
    func claimProbe() async -> Bool
}

extension LedgerJournal: Fleet {}
