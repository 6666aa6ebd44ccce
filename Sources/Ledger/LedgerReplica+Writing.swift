import DequeModule
import Journal

// What is written: records wait until the message before has reached the broker, and then go out together.

extension LedgerReplica {
    /// Maximum records per message: some 100 KiB, which one frame of the broker's default size holds.
    private static let mostRecords = 400
    /// Messages that are kept, to be written again if the stream loses them, and records in them.
    private static let mostKept = (messages: 1024, records: 4000)

    /// Whether there is something to be published, and nothing is on its way.
    ///
    /// Nothing before what the stream has lost stands there again.
    private var maySend: Bool {
        guard sent == nil, !outbox.isEmpty, !isClosed else { return false }
        return canWrite
    }

    /// Whether this replica can write its records yet.
    var canWrite: Bool {
        switch phase {
        case .joining, .upToDate: true
        case .away, .inspecting, .greeting, .reading, .rewriting: false
        }
    }

    mutating func write(_ record: LedgerRecord, _ waiter: LedgerEvent.Waiter?) -> [LedgerEffect] {
        outbox.append(Pending(record: record, waiter: waiter))
        return flushSoon()
    }

    /// If a message is on its way, its confirm flushes.
    mutating func flushSoon() -> [LedgerEffect] {
        guard !isFlushDue, maySend else { return [] }
        isFlushDue = true
        return [.flushSoon]
    }

    mutating func flush(at now: LedgerMoment) -> [LedgerEffect] {
        isFlushDue = false
        guard maySend else { return [] }
        let batch = Array(outbox.prefix(Self.mostRecords))
        outbox.removeFirst(batch.count)
        let message = message(of: batch.map(\.record), at: now)
        let body = message.encoded
        owed.append(
            Owed(message: message, body: body, waiters: batch.map(\.waiter), publishedAt: now.monotonic)
        )
        sent = message.number
        return [.publish(number: message.number, body: body)]
    }

    mutating func message(of records: [LedgerRecord], at now: LedgerMoment) -> LedgerMessage {
        lastNumber += 1
        return LedgerMessage(
            replica: name,
            writer: options.writer,
            number: lastNumber,
            at: now.wall,
            records: records
        )
    }

    mutating func confirmed(_ number: Int64, at now: LedgerMoment) -> [LedgerEffect] {
        if sent == number { sent = nil }
        if phase.isGreeting, number == greeting { return greetingIsConfirmed(at: now) }
        return flush(at: now)
    }

    /// Keeps what may have to be written again; without the `begin`s that lost their race, which would win it then.
    mutating func keep(_ message: LedgerMessage, _ answers: [LedgerState.Answer]) {
        var answers = answers.makeIterator()
        var kept = message
        kept.records = message.records.compactMap { record in
            guard case .begin(let request) = record else {
                return record.outlivesStream && !record.standsInFold ? record : nil
            }
            guard let answer = answers.next() else { return nil }
            // That it has met its order is what is left of it.
            return answer.hasBegun
                ? record : answer.isCancelled ? .withdrawn(id: request.id, replay: request.replay) : nil
        }
        guard !kept.records.isEmpty else { return }
        self.kept.append(kept)
        keptRecords += kept.records.count
        while self.kept.count > Self.mostKept.messages || keptRecords > Self.mostKept.records {
            keptRecords -= self.kept.removeFirst().records.count
        }
    }

    /// Says goodbye, with all that was not written yet; nothing is published any more.
    mutating func close(at now: LedgerMoment) -> [LedgerEffect] {
        guard !isClosed else { return [] }
        var effects: [LedgerEffect] = []
        let records: [LedgerRecord]
        switch phase {
        case .joining, .upToDate:
            records = outbox.map(\.record) + [.bye]
            outbox = []
        // What waits goes behind what is read, or written again, and there is no time for that.
        case .reading, .rewriting: records = [.bye]
        case .away, .inspecting, .greeting: records = []
        }
        for start in stride(from: 0, to: records.count, by: Self.mostRecords) {
            let part = Array(records[start..<min(start + Self.mostRecords, records.count)])
            effects.append(.publish(number: nil, body: message(of: part, at: now).encoded))
        }
        isClosed = true
        effects += waitingForReady.map { .answer($0, .done) }
        waitingForReady = []
        return effects + failWanting(Self.silent)
    }
}
