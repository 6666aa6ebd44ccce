import EditJob
import Journal
import TestSupport
import Testing

/// One replica's part, without a broker: a stream that it writes and reads by itself.
struct LedgerReplicaTests {
    private struct Stream {
        var replica = LedgerReplica(name: "a", writer: "h:1", retention: 1 << 40)
        var messages: [LedgerMessage] = []

        mutating func read(_ message: LedgerMessage) -> [LedgerReplica.Event] {
            messages.append(message)
            return replica.read(message, at: Int64(messages.count - 1))
        }

        /// Publishes and reads back all that waits.
        mutating func pump() {
            while let message = replica.next(at: 1) {
                _ = read(message)
                replica.confirmed(message.number)
            }
        }

        mutating func connect() {
            let greeting = replica.greet([.hello(LedgerGreeting(version: "1", settings: [:]))], at: 1)
            replica.confirmed(greeting.number)
            _ = read(greeting)
        }

        mutating func lose() {
            messages = []
            replica.startOver()
        }
    }

    private static func begin(_ id: String) -> LedgerRecord {
        .begin(JournalRequest(id: id, digest: BodyDigest(Array(id.utf8))))
    }

    @Test func `what a lost stream held is written again before anything is let go`() {
        var stream = Stream()
        stream.connect()
        // More than one message holds.
        for index in 0..<900 {
            stream.replica.write(Self.begin("job-\(index)"))
            stream.replica.write(.end(id: "job-\(index)", .accepted(taskID: "t", at: nil)))
            if index % 9 == 0 { stream.pump() }
        }
        stream.pump()
        stream.lose()
        stream.connect()
        #expect(!stream.replica.isUpToDate && stream.replica.maySend)
        // What comes meanwhile waits behind it.
        stream.replica.write(Self.begin("new"))
        var rewritten: [String] = []
        while !stream.replica.isUpToDate {
            guard let message = stream.replica.next(at: 2) else { break }
            rewritten += message.records.compactMap { if case .end(let id, _) = $0 { id } else { nil } }
            let isNew = message.records.contains(Self.begin("new"))
            #expect(!isNew)
            _ = stream.read(message)
            stream.replica.confirmed(message.number)
        }
        #expect(stream.replica.isUpToDate)
        #expect(Set(rewritten).count == 900)
        stream.pump()
        #expect(stream.replica.isSubmitting("new"))
    }

    @Test func `a begin that lost its race is not written again, where it would win`() {
        var stream = Stream()
        stream.connect()
        let other = LedgerMessage(replica: "b", writer: "h:2", number: 0, at: 1, records: [Self.begin("job")])
        stream.replica.write(Self.begin("job"))
        // The other one's comes first.
        _ = stream.read(other)
        stream.pump()
        #expect(!stream.replica.isSubmitting("job"))
        stream.lose()
        stream.connect()
        stream.pump()
        let kinds = stream.messages.flatMap(\.records).map(\.kind)
        #expect(kinds == ["hello"])
    }

    @Test func `a stream that is lost again while it is written loses nothing more`() {
        var stream = Stream()
        stream.connect()
        for index in 0..<500 {
            stream.replica.write(Self.begin("job-\(index)"))
            stream.replica.write(.end(id: "job-\(index)", .accepted(taskID: "t", at: nil)))
            if index % 50 == 0 { stream.pump() }
        }
        stream.pump()
        for _ in 0..<3 {
            stream.lose()
            stream.connect()
            // One message of several, and then the connection ends.
            guard let message = stream.replica.next(at: 2) else { break }
            _ = stream.read(message)
        }
        stream.lose()
        stream.connect()
        stream.pump()
        #expect(stream.replica.isUpToDate)
        let ends = stream.messages.flatMap(\.records).compactMap { if case .end(let id, _) = $0 { id } else { nil } }
        #expect(Set(ends).count == 500)
    }
}
