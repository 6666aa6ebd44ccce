package import Ledger

/// The other replicas, as the admission of one meets them.
package protocol Fleet: Sendable {
    /// Whether starts wait for a rate limit of all replicas together.
    var limitsStarts: Bool { get }
    /// Whether a job may start, one of `waiting` that wait; never `ask`.
    func turn(waiting: Int) -> FleetSlots.Turn
    /// Announces that the account is closed for `delay`.
    func tellClosed(_ reason: String, for delay: Duration, isHeld: Bool)
    /// Tells that the account takes jobs again.
    func tellOpened()
    /// Whether this replica may be the one that tries whether the account takes jobs again.
    func claimProbe() async -> Bool
}

extension LedgerJournal: Fleet {}
