import EditJob
import Journal
import Ledger
import NIOConcurrencyHelpers
import RabbitMQ
import SharedValues
import TestSupport
import Testing

/// Two ledgers of one stream on the real broker, in one process.
@Suite(.timeLimit(.minutes(10)))
struct LedgerJournalTests {
    private struct Quiet: LedgerJournal.Observer {
        func read(_ kinds: [String: Int]) {}
        func lagged(_ lag: Duration) {}
        func remembers(_ entries: Int) {}
        func knowsFleet(replicas: Int, imagesLeft: Int?) {}
        func isOutdated() {}
        func awaitsOthers(atMost: Duration) {}
        func metNamesake() {}
        func readStranger(_ user: String, isAtStart: Bool) {}
    }

    private static func ledger(
        patience: Duration = .seconds(60),
        writers: [WildcardPattern] = []
    ) -> LedgerJournal {
        LedgerJournal(options(patience: patience, writers: writers), observer: Quiet())
    }

    private static func options(patience: Duration, writers: [WildcardPattern] = []) -> LedgerJournal.Options {
        var replica = LedgerReplica.Options(
            name: LedgerJournal.freshName,
            writer: "test:1",
            greeting: LedgerGreeting(version: "1", settings: [:]),
            startedAt: 0,
            retention: .seconds(3600),
            patience: patience
        )
        replica.writers = writers
        replica.heartbeat = min(ReplicaSilence.interval, patience / 3)
        return LedgerJournal.Options(
            replica: replica,
            stream: QueueDeclaration(name: "q.ledger", arguments: ["x-queue-type": .text("stream")]),
            jobs: "q",
            mayDeclare: true
        )
    }

    /// A ledger with its connection.
    private static func with(
        _ broker: TestBroker,
        patience: Duration = .seconds(60),
        _ body: (LedgerJournal, AMQPConnection) async throws -> Void
    ) async throws {
        let ledger = ledger(patience: patience)
        let connection = try await ledger.attach(broker.connect("ledger"))
        await ledger.waitUntilReady()
        try await body(ledger, connection)
        await ledger.close()
        await connection.close()
    }

    private static func write(_ body: String, by user: String?, on connection: AMQPConnection) async throws {
        var properties = MessageProperties()
        properties.userID = user.map { ByteString($0) }
        let message = OutboundMessage(routingKey: "q.ledger", properties: properties, body: Array(body.utf8))
        guard case .confirmed = try await connection.publish(message) else {
            throw DeadlinePassed(description: "the record was not taken")
        }
    }

    private static let moment = Timestamp.now

    private static func accepted(_ taskID: String) -> PriorSubmission {
        .accepted(taskID: taskID, attempts: 1, mayBeDuplicate: false, at: moment)
    }

    private static func request(_ id: String, _ body: String = "b") -> JournalRequest {
        JournalRequest(id: id, digest: BodyDigest(Array(body.utf8)))
    }

    @Test func `what one has submitted the other knows`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await Self.with(broker) { first, _ in
                #expect(try await first.begin(Self.request("a")) == .never)
                try await Self.with(broker) { second, _ in
                    #expect(first.maySubmit("a") && !second.maySubmit("a"))
                    #expect(try await second.begin(Self.request("a")) == PriorSubmission.running)
                    let moment = Timestamp.now
                    try await first.finish("a", .accepted(taskID: "t", at: moment))
                    let accepted = PriorSubmission.accepted(
                        taskID: "t",
                        attempts: 1,
                        mayBeDuplicate: false,
                        at: moment
                    )
                    // Until it has read that, it takes the job for under way.
                    try await eventually("the other has read it") {
                        try await second.begin(Self.request("a")) == accepted
                    }
                    #expect(try await second.begin(Self.request("a", "other")) == .conflict)
                    #expect(try await first.begin(Self.request("a")) == accepted)
                }
            }
        }
    }

    @Test func `a thousand jobs that both begin at once are begun once each`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await Self.with(broker) { first, _ in
                try await Self.with(broker) { second, _ in
                    let begun = try await withThrowingTaskGroup(of: Bool.self) { group in
                        for index in 0..<1000 {
                            for ledger in [first, second] {
                                group.addTask {
                                    let answer = try await ledger.begin(Self.request("job-\(index)"))
                                    guard answer.allowsSubmission else { return false }
                                    try await ledger.finish("job-\(index)", .accepted(taskID: "\(index)"))
                                    return true
                                }
                            }
                        }
                        return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
                    }
                    #expect(begun == 1000)
                    #expect(first.entries == 1000)
                }
            }
        }
    }

    @Test func `a job of one that is gone for long enough is in doubt`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let first = Self.ledger()
            let connection = try await first.attach(broker.connect("first"))
            await first.waitUntilReady()
            _ = try await first.begin(Self.request("a"))
            try await Self.with(broker, patience: .milliseconds(900)) { second, _ in
                #expect(try await second.begin(Self.request("a")) == PriorSubmission.running)
                await connection.close()
                try await eventually("it is given up") {
                    try await second.begin(Self.request("a")) == .unknown(attempts: 1)
                }
            }
            #expect(!first.maySubmit("a"))
        }
    }

    @Test func `a connection that is lost is gone on from by the next`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await Self.with(broker) { ledger, connection in
                for index in 0..<50 {
                    _ = try await ledger.begin(Self.request("job-\(index)"))
                    try await ledger.finish("job-\(index)", .accepted(taskID: "t-\(index)", at: Self.moment))
                }
                _ = try await ledger.begin(Self.request("open"))
                await connection.close()
                try await eventually("it has noticed") { ledger.progress != nil }
                #expect(!ledger.maySubmit("open"))
                // What ends meanwhile is written later.
                let ending = Task { try await ledger.finish("open", .accepted(taskID: "late", at: Self.moment)) }
                let next = try await ledger.attach(broker.connect("next"))
                await ledger.waitUntilReady()
                try await ending.value
                #expect(ledger.entries == 51)
                try await Self.with(broker) { other, _ in
                    let late = Self.accepted("late")
                    let open = try await other.begin(Self.request("open"))
                    #expect(open == late)
                    let first = Self.accepted("t-0")
                    let known = try await other.begin(Self.request("job-0"))
                    #expect(known == first)
                }
                await next.close()
            }
        }
    }

    /// As `BrokerLink`: takes another connection if the replica leaves this one, as it does when the stream is another one.
    private static func attachUntilReady(_ ledger: LedgerJournal, _ broker: TestBroker) async throws -> AMQPConnection {
        while true {
            let connection = try await ledger.attach(broker.connect("next"))
            try await eventually("it is ready, or has left") { ledger.progress == nil || !connection.isOpen }
            if ledger.progress == nil { return connection }
        }
    }

    /// A job that was delivered before, and comes to this replica now.
    private static func redelivered(_ id: String, to ledger: LedgerJournal) -> JournalRequest {
        var request = request(id)
        let mark = ledger.mark(wasDeliveredBefore: true, awaitsVerdict: false)
        request.mayBeSubmittedElsewhere = mark.isInDoubt
        request.lossesAtDelivery = mark.losses
        return request
    }

    @Test func `a real run that is told again to a replica has the same effects: the shell adds nothing`() async throws
    {
        struct Step: Sendable {
            let event: LedgerEvent
            let moment: LedgerMoment
            let effects: [LedgerEffect]
        }
        let steps = NIOLockedValueBox<[Step]>([])
        var options = Self.options(patience: .seconds(3))
        options.replica.rateLimit = RateLimit("20/1s")
        options.replica.budget = RateLimit("500/1h")
        try await TestBroker.withVirtualHost { broker in
            let ledger = LedgerJournal(options, observer: Quiet())
            ledger.record { event, moment, effects in
                steps.withLockedValue { $0.append(Step(event: event, moment: moment, effects: effects)) }
            }
            let first = try await ledger.attach(broker.connect("first"))
            await ledger.waitUntilReady()
            try await Self.with(broker) { other, _ in
                for index in 0..<30 {
                    _ = try await ledger.begin(Self.request("job-\(index)"))
                    _ = ledger.mark(wasDeliveredBefore: index % 2 == 0, awaitsVerdict: false)
                    _ = try await other.begin(Self.request("job-\(index)"))
                    try await ledger.finish("job-\(index)", .accepted(taskID: "t-\(index)", at: Self.moment))
                    _ = ledger.turn(waiting: 3)
                }
            }
            _ = try await ledger.begin(Self.request("open"))
            ledger.tellClosed("credits", for: .seconds(5), isHeld: false)
            #expect(await ledger.claimProbe())
            // The connection is lost, and then the stream.
            await first.close()
            try await eventually("it has noticed") { ledger.progress != nil }
            let second = try await ledger.attach(broker.connect("second"))
            await ledger.waitUntilReady()
            try await broker.withConnection { try await $0.delete(queue: "q.ledger") }
            await second.close()
            try await eventually("it has noticed") { ledger.progress != nil }
            let third = try await Self.attachUntilReady(ledger, broker)
            ledger.tellOpened()
            try await ledger.finish("open", .released)
            await ledger.close()
            await third.close()
        }
        let recorded = steps.withLockedValue { $0 }
        #expect(recorded.count > 200)
        var replica = LedgerReplica(options.replica)
        for (index, step) in recorded.enumerated() {
            let effects = replica.handle(step.event, at: step.moment)
            guard effects == step.effects else {
                Issue.record("step \(index), \(step.event): \(effects) instead of \(step.effects)")
                return
            }
        }
        let published = recorded.flatMap(\.effects).count { if case .publish = $0 { true } else { false } }
        #expect(published > 20)
    }

    private static func isInDoubt(_ answer: PriorSubmission) -> Bool {
        if case .ended(.unknown(let failure), _, _) = answer { failure.code == .outcomeUnknown } else { false }
    }

    @Test func `an empty stream that somebody else has made knows nothing of what was delivered before`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                _ = try await connection.declare(
                    QueueDeclaration(name: "q.ledger", arguments: ["x-queue-type": .text("stream")])
                )
                // Somebody works at the queue, and may hold what was submitted.
                _ = try await connection.consume(from: "q", prefetch: 1)
                try await Self.with(broker, patience: .seconds(3)) { ledger, _ in
                    let answer = try await ledger.begin(Self.redelivered("a", to: ledger))
                    #expect(Self.isInDoubt(answer))
                    #expect(try await ledger.begin(Self.request("b")) == .never)
                }
                // The next one reads that from the stream.
                try await Self.with(broker, patience: .seconds(3)) { ledger, _ in
                    let answer = try await ledger.begin(Self.redelivered("c", to: ledger))
                    #expect(Self.isInDoubt(answer))
                }
            }
        }
    }

    @Test func `a stream that is deleted under living replicas has what they know again`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { other in
                _ = try await other.declare(QueueDeclaration(name: "q"))
                let ledger = Self.ledger()
                let connection = try await ledger.attach(broker.connect("ledger"))
                await ledger.waitUntilReady()
                for index in 0..<20 {
                    _ = try await ledger.begin(Self.request("job-\(index)"))
                    try await ledger.finish("job-\(index)", .accepted(taskID: "t-\(index)", at: Self.moment))
                }
                _ = try await ledger.begin(Self.request("open"))
                // With nobody at the queue the doubt would end before the last question, if that takes seconds.
                _ = try await other.consume(from: "q", prefetch: 1)
                try await other.delete(queue: "q.ledger")
                await connection.close()
                try await eventually("it has noticed") { ledger.progress != nil }
                let next = try await Self.attachUntilReady(ledger, broker)
                // Nothing was let go before: what comes as new is known.
                #expect(try await ledger.begin(Self.request("job-7")) == Self.accepted("t-7"))
                #expect(ledger.maySubmit("open"))
                try await Self.with(broker) { newcomer, _ in
                    for index in 0..<20 {
                        let answer = try await newcomer.begin(Self.request("job-\(index)"))
                        #expect(answer == Self.accepted("t-\(index)"))
                    }
                    #expect(try await newcomer.begin(Self.request("open")) == .running)
                    // What neither knows may have been submitted.
                    #expect(try await Self.isInDoubt(newcomer.begin(Self.redelivered("elsewhere", to: newcomer))))
                }
                await ledger.close()
                await next.close()
            }
        }
    }

    @Test func `a newer version's message stops the submissions, and what is no message does not`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await Self.with(broker) { ledger, _ in
                try await broker.withConnection { connection in
                    let large = "[" + String(repeating: "{},", count: 1 << 19) + "{}]"
                    let newer = #"{"v":2,"replica":"x","n":0,"at":1,"records":[{"kind":"begin"}]}"#
                    // The last says nothing of who wrote it.
                    for (body, user) in [
                        ("rubbish", "guest"), (#"{"v":2}"#, "guest"), (#"{"v":0,"replica":"x"}"#, "guest"),
                        (large, "guest"), (newer, nil),
                    ] {
                        try await Self.write(body, by: user, on: connection)
                    }
                    #expect(try await ledger.begin(Self.request("a")) == .never)
                    try await Self.write(newer, by: "guest", on: connection)
                }
                try await eventually("it is read") { !ledger.maySubmit("a") }
                let fault = await #expect(throws: JournalFault.self) { try await ledger.begin(Self.request("b")) }
                #expect(fault?.description.contains("upgrade this replica") == true)
                // What is under way has its verdict all the same.
                try await ledger.finish("a", .accepted(taskID: "t", at: Self.moment))
            }
        }
    }

    @Test func `the broker says who the user is`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let own = try await broker.withConnection { try await $0.userName() }
            #expect(own == "guest")
            try await broker.withUser { user, other in
                try await other.withConnection { connection in
                    #expect(try await connection.userName() == user)
                    // The connection has lost nothing by it.
                    _ = try await connection.declare(QueueDeclaration(name: "q"))
                }
            }
        }
    }

    @Test func `records of a stranger are as if they were not there`() async throws {
        let accepted =
            #"{"v":1,"replica":"x","writer":"x:1","n":0,"at":\#(Self.moment.milliseconds),"records":["#
            + #"{"kind":"end","id":"a","verdict":"accepted","task_id":"forged"},{"kind":"pause","reason":"forged"}]}"#
        try await TestBroker.withVirtualHost { broker in
            try await broker.withUser { user, stranger in
                try await stranger.withConnection { connection in
                    _ = try await connection.declare(
                        QueueDeclaration(name: "q.ledger", arguments: ["x-queue-type": .text("stream")])
                    )
                    // First of all, so that no ledger seems to begin here any more.
                    try await Self.write(accepted, by: user, on: connection)
                    try await broker.withConnection { guest in
                        _ = try await guest.declare(QueueDeclaration(name: "q"))
                        // Somebody works at the queue, and may hold what was submitted.
                        _ = try await guest.consume(from: "q", prefetch: 1)
                        try await Self.with(broker, patience: .seconds(3)) { ledger, _ in
                            #expect(try await ledger.begin(Self.request("a")) == .never)
                            #expect(try await Self.isInDoubt(ledger.begin(Self.redelivered("b", to: ledger))))
                            try await Self.write(accepted, by: user, on: connection)
                            try await Self.write(accepted, by: nil, on: connection)
                            try await ledger.finish("a", .accepted(taskID: "t-a", at: Self.moment))
                            #expect(try await ledger.begin(Self.request("a")) == Self.accepted("t-a"))
                        }
                    }
                }
            }
        }
    }

    @Test func `who starts beside workers of another user waits until they are gone, or counts them`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withUser { user, others in
                try await Self.with(others, patience: .seconds(3)) { other, _ in
                    _ = try await other.begin(Self.request("a"))
                    let alone = Self.ledger(patience: .seconds(3))
                    let connection = try await alone.attach(broker.connect("alone"))
                    let friend = Self.ledger(writers: [WildcardPattern("u-*")])
                    let second = try await friend.attach(broker.connect("friend"))
                    await friend.waitUntilReady()
                    #expect(try await friend.begin(Self.request("a")) == .running)
                    #expect(alone.progress != nil, "\(user)")
                    await other.close()
                    await alone.waitUntilReady()
                    await alone.close()
                    await connection.close()
                    await friend.close()
                    await second.close()
                }
            }
        }
    }

    @Test func `a connection that is lost leaves no doubt`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let ledger = Self.ledger()
            let first = try await ledger.attach(broker.connect("first"))
            await ledger.waitUntilReady()
            for index in 0..<5 { _ = try await ledger.begin(Self.request("job-\(index)")) }
            await first.close()
            try await eventually("it has noticed") { ledger.progress != nil }
            let second = try await ledger.attach(broker.connect("second"))
            await ledger.waitUntilReady()
            // Nothing was lost: who reads all that is there knows all.
            #expect(try await ledger.begin(Self.redelivered("new", to: ledger)) == .never)
            await ledger.close()
            await second.close()
        }
    }

    @Test(arguments: [LedgerRecord.resume(pause: nil), .hello(LedgerGreeting(version: "1", settings: [:]))])
    func `neither an order nor a greeting before the first doubt hides it`(_ record: LedgerRecord) async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                _ = try await connection.declare(
                    QueueDeclaration(name: "q.ledger", arguments: ["x-queue-type": .text("stream")])
                )
                _ = try await connection.consume(from: "q", prefetch: 1)
                let order = LedgerMessage(
                    replica: "operator-1",
                    writer: "x:1",
                    number: 0,
                    at: Self.moment.milliseconds,
                    records: [record]
                )
                try await Self.write(String(decoding: order.encoded, as: UTF8.self), by: "guest", on: connection)
                try await Self.with(broker, patience: .seconds(3)) { ledger, _ in
                    let answer = try await ledger.begin(Self.redelivered("b", to: ledger))
                    #expect(Self.isInDoubt(answer))
                }
            }
        }
    }
}
