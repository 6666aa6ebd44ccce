import Journal

// Another process with this replica's name: the copy of a machine that was running, or forged records.

extension LedgerReplica {
    /// Whether a message under this replica's name is not its own.
    ///
    /// Others may have written again what the stream had lost, without what did not outlive it.
    func isNamesakes(_ message: LedgerMessage) -> Bool {
        guard message.replica == name, !isClosed else { return false }
        guard message.number <= lastNumber else { return true }
        if let owed = owed.first(where: { $0.message.id == message.id }) {
            return message.at != owed.message.at || !owed.isPart(of: message) && !owed.contains(message)
        }
        // What this replica has written was read, or does not outlive a connection.
        return message.lasting != nil && !state.hasApplied(message)
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
        (new.reads, new.withdrawn) = (reads, withdrawn)
        new.slots?.block(now: now.monotonic)
        (new.waitingForReady, new.deadlines, new.wanting) = (waitingForReady, deadlines, wanting)
        (new.toldPause, new.toldClosure, new.mustTellGap) = (toldPause, toldClosure, mustTellGap)
        for (waiter, want) in wanting {
            new.wanting[waiter]?.stage = .waiting
            // What comes for the first time cannot have been begun without a record, which is found now.
            if want.request.lossesAtDelivery != nil { new.wanting[waiter]?.request.mayBeSubmittedElsewhere = true }
            new.wait(waiter, at: now)
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
    /// Where each record of a message stands in this one, which may have less or more of them.
    func places(of message: LedgerMessage) -> [Int?] {
        var next = 0
        let own = asRead.records
        return message.records.map { record in
            let place = own[next...].firstIndex(of: record)
            if let place { next = place + 1 }
            return place
        }
    }

    /// Whether a message says nothing that this one does not.
    func contains(_ message: LedgerMessage) -> Bool { places(of: message).allSatisfy { $0 != nil } }

    /// Whether this one says nothing that a message does not.
    func isPart(of message: LedgerMessage) -> Bool {
        LedgerReplica.Owed(message: message).contains(asRead)
    }

    private var asRead: LedgerMessage { body.flatMap { try? LedgerMessage(parsing: $0) } ?? message }
}
