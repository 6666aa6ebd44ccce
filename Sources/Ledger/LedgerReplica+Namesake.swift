import Journal

// Another process with this replica's name: the copy of a machine that was running, or somebody who forges records.

extension LedgerReplica {
    /// Whether a message under this replica's name is not its own.
    ///
    /// Others may have written again what the stream had lost, without what did not outlive it.
    func isNamesakes(_ message: LedgerMessage) -> Bool {
        guard message.replica == name else { return false }
        guard message.number <= lastNumber else { return true }
        guard let owed = owed.first(where: { $0.message.id == message.id }) else { return false }
        guard message.at == owed.message.at else { return true }
        return owed.places(in: message) == nil
    }

    /// Ends what this replica has done under its name, which does not tell any more whose records are whose.
    mutating func meetNamesake() -> [LedgerEffect] {
        hasNamesake = true
        return [.needsName] + disconnected(false)
    }

    /// Begins anew under another name, and trusts nothing that was under way.
    ///
    /// The ledger is read again from its beginning. What was delivered before is in doubt.
    mutating func begin(as name: String, at now: LedgerMoment) -> [LedgerEffect] {
        guard hasNamesake else { return [] }
        var options = options
        options.name = name
        var new = LedgerReplica(options)
        (new.link, new.user, new.gate) = (link, user, gate)
        (new.losses, new.hasTaken, new.isClosed) = (losses + 1, true, isClosed)
        new.slots?.block(now: now.monotonic)
        (new.waitingForReady, new.deadlines, new.wanting) = (waitingForReady, deadlines, wanting)
        for waiter in wanting.keys {
            new.wanting[waiter]?.stage = .waiting
            new.wanting[waiter]?.request.mayBeSubmittedElsewhere = true
        }
        let unwritten = owed.flatMap { owed in zip(owed.message.records, owed.waiters).map(Pending.init) }
        let effects: [LedgerEffect] = probing.sorted().map { .answer($0, .probe(false)) }
        new.outbox = unwritten + outbox
        new.outbox.removeAll { pending in
            if case .begin = pending.record { return true }
            return pending.waiter.map { probing.contains($0) || wanting[$0] != nil } ?? !pending.record.outlivesStream
        }
        self = new
        return effects
    }
}

extension LedgerReplica.Owed {
    /// Where each record of a message stands in this one; nil if the message is not a part of this one.
    func places(in message: LedgerMessage) -> [Int]? {
        let own = body.flatMap { try? LedgerMessage(parsing: $0) } ?? self.message
        var (places, next) = ([Int](), 0)
        for record in message.records {
            guard let place = own.records[next...].firstIndex(of: record) else { return nil }
            places.append(place)
            next = place + 1
        }
        return places
    }
}
