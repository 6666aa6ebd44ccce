import EditJob
import EditWorker
import JSON
import Journal
import NIOConcurrencyHelpers
import RabbitMQ
import SeedreamAPI
import SharedValues
import TestSupport
import Testing

/// What the pipeline decides where gate, journal and broker meet.
@Suite(.timeLimit(.minutes(10)))
struct JobPipelineTests {
    private static let body = #"{"image_urls":["https://a"],"prompt":"x"}"#

    private static func answered(_ status: Int, _ body: String = "") -> SubmissionResult {
        .answered(APIAnswer(status: status, body: .complete(Array(body.utf8))))
    }

    private static let accepted = (result: answered(200, #"{"task_id":"t"}"#), isAccepted: true)

    /// A world whose submissions are answered in turn, the last for ever.
    private static func world(
        _ answers: [SubmissionResult],
        hasRequester: Bool = true,
        crashes: [SimulatedWorld.CrashPoint] = [],
        change: (inout MessageProperties) -> Void = { _ in }
    ) -> SimulatedWorld {
        SimulatedWorld(body: body, crashes: crashes, hasRequester: hasRequester, change: change) { index in
            (answers[min(index, answers.count - 1)], false)
        }
    }

    private static func runAll(_ world: SimulatedWorld, _ pipeline: JobPipeline) async {
        while await world.step(pipeline) {}
    }

    @Test func `an accepted job that comes again is told, also where its requester is gone`() async throws {
        // The first acknowledgement is lost, and with it the requester's connection.
        let journal = MemoryJournal()
        let world = SimulatedWorld(
            body: Self.body,
            crashes: [.init(effect: 5, isBefore: true)],
            hasRequester: true
        ) { _ in Self.accepted }
        await Self.runAll(world, .simulated(in: world, journal))
        #expect(world.crashedAt == ["before acknowledge"])
        let gone = SimulatedWorld(body: Self.body, hasRequester: false) { properties in
            properties.replyTo = "amq.rabbitmq.reply-to.x"
        } answers: { _ in
            Self.accepted
        }
        await Self.runAll(gone, .simulated(in: gone, journal))
        let reply = try #require(gone.replies.first)
        #expect(reply["task_id"]?.text == "t")
        #expect(reply["duplicate_of_delivery"] == .boolean(true))
        #expect(gone.submissions == 0)
    }

    @Test func `a requester that is gone before the submission costs nothing, and leaves no doubt`() async throws {
        let journal = MemoryJournal()
        for _ in 0..<2 {
            let world = Self.world([Self.accepted.result], hasRequester: false) {
                $0.replyTo = "amq.rabbitmq.reply-to.x"
            }
            await Self.runAll(world, .simulated(in: world, journal))
            let reply = try #require(world.replies.first)
            #expect(reply["error"]?["code"]?.text == "requester_gone")
            #expect(reply["charged"]?.text == "no")
            #expect(world.submissions == 0)
            #expect(world.deadLetters == 1)
        }
    }

    @Test func `a job that is held is submitted again as it was`() async throws {
        let wait = APIAnswer(status: 429, retryAfter: "0", body: .complete([]))
        let world = Self.world([.answered(wait), Self.accepted.result])
        let delivery = try #require(world.deliver())
        await JobPipeline.simulated(in: world, MemoryJournal()).take(delivery)
        #expect(world.isDone)
        let body = try EditJob(parsing: Self.body.utf8).requestBody()
        #expect(world.bodies == [body, body])
        #expect(world.replies.first?["task_id"]?.text == "t")
    }

    @Test func `a job that met a proxy's 503 is kept as the probe, counted once, and marked`() async throws {
        let down = Self.answered(503, "upstream connect error or disconnect/reset before headers")
        let world = Self.world([down, down, down, Self.accepted.result])
        await Self.runAll(world, .simulated(in: world, MemoryJournal(), maxAttempts: 2))
        #expect(world.submissions == 4)
        // It never left the worker.
        #expect(world.copies.isEmpty)
        let reply = try #require(world.replies.first)
        #expect(reply["task_id"]?.text == "t" && reply["attempts"]?.exactInteger == 2)
        #expect(reply["may_be_duplicate"] == .boolean(true))
    }

    @Test func `a job that is kept as the probe goes back, marked, when the worker drains`() async throws {
        let world = Self.world([Self.answered(503)])
        let gate = Gate.simulated(machine: GateState(minDelay: .seconds(300), maxDelay: .seconds(300)))
        let pipeline = JobPipeline.simulated(in: world, MemoryJournal(), gate: gate)
        let delivery = try #require(world.deliver())
        let taking = Task { await pipeline.take(delivery) }
        try await eventually("the job waits") { gate.waiting > 0 }
        #expect(gate.closedFor == .unavailable)
        // No other job is taken for a probe meanwhile.
        if case .none = gate.intake() {} else { Issue.record("\(gate.intake())") }
        gate.drain()
        await taking.value
        let copy = try #require(world.copies.first)
        #expect(copy.routingKey == "q.retry.1ms")
        #expect(copy.properties.headers?["x-may-be-duplicate"] == .boolean(true))
        #expect(copy.properties.headers?["x-attempts"]?.integer == 1)
    }

    @Test func `under park a proxy's 503 is for a person to look at`() async throws {
        let gate = Gate.simulated(machine: GateState(minDelay: .seconds(3600), maxDelay: .seconds(3600)))
        let world = Self.world([Self.answered(503, "<html>Backend fetch failed</html>")])
        let pipeline = JobPipeline.simulated(in: world, MemoryJournal(), gateway: .park, gate: gate)
        #expect(await world.step(pipeline))
        #expect(world.submissions == 1 && world.unknown == 1)
        let error = try #require(world.replies.first?["error"])
        #expect(error["code"]?.text == "outcome_unknown")
        // What it said is kept.
        #expect(error["api_answer"]?.text == "<html>Backend fetch failed</html>")
        #expect(world.copies.first?.properties.headers?["x-api-answer"]?.text == "<html>Backend fetch failed</html>")
        #expect(gate.closedFor == .unavailable)
    }

    @Test func `a job that meets the row of refusals goes back as it came`() async throws {
        let gate = Gate.simulated(machine: GateState(minDelay: .seconds(3600), maxDelay: .seconds(3600)))
        let plain = Self.answered(400, "The plain HTTP request was sent to HTTPS port")
        let journal = MemoryJournal()
        var late: [Task<Void, Never>] = []
        var worlds: [SimulatedWorld] = []
        for index in 0..<4 {
            let world = Self.world([plain]) { $0.messageID = ByteString("job-\(index)") }
            worlds.append(world)
            let pipeline = JobPipeline.simulated(in: world, journal, gate: gate)
            let delivery = try #require(world.deliver())
            if index < 3 {
                await pipeline.take(delivery)
            } else {
                late.append(Task { await pipeline.take(delivery) })
            }
        }
        for task in late { await task.value }
        #expect(worlds.map(\.deadLetters) == [1, 1, 1, 0])
        #expect(worlds[3].copies.map(\.routingKey) == ["q.retry.1ms"])
        #expect(gate.closedFor == .endpoint)
    }

    @Test func `evidence is kept without the job's own texts`() async throws {
        let secret = "Make the whole sky violet"
        let body = #"{"image_urls":["https://cdn.example/picture-4711.png"],"prompt":"\#(secret)"}"#
        let answer =
            #"{"task_id":"a","taskId":"b","input":{"prompt":"Make the\nwhole sky violet!","url":"#
            + #""https://cdn.example/picture-4711.png"}}"#
        let world = SimulatedWorld(body: body) { _ in (Self.answered(200, answer), false) }
        await Self.runAll(world, .simulated(in: world, MemoryJournal()))
        let evidence = try #require(world.replies.first?["error"]?["api_answer"]?.text)
        #expect(evidence.contains(#""task_id":"a","taskId":"b""#), "\(evidence)")
        for part in ["sky", "violet", "cdn", "4711"] { #expect(!evidence.contains(part), "\(evidence)") }
        #expect(evidence.utf8.count <= 512)
        // Escapes hide nothing, and letters of many bytes end nothing.
        let hidden =
            #"<p>M\u0061ke%20the &#119;hole&nbsp;sky v&#x69;olet &eacute;</p> "# + String(repeating: "🇮🇳ाাा", count: 400)
        let escaped = SimulatedWorld(body: body) { _ in (Self.answered(502, hidden), false) }
        await Self.runAll(escaped, .simulated(in: escaped, MemoryJournal(), gateway: .park))
        let text = try #require(escaped.replies.first?["error"]?["api_answer"]?.text)
        for part in ["sky", "violet", "olet", "whole", "eacute"] { #expect(!text.contains(part), "\(text)") }
        #expect(text.contains("<p>") && text.utf8.count <= 512)
        let long = SimulatedWorld(body: body) { _ in
            (Self.answered(200, String(repeating: "x", count: 5000)), false)
        }
        await Self.runAll(long, .simulated(in: long, MemoryJournal()))
        #expect(long.replies.first?["error"]?["api_answer"]?.text?.utf8.count == 512)
    }

    @Test func `a job that waits for its start has no entry yet`() async throws {
        let journal = MemoryJournal()
        let world = Self.world([Self.accepted.result])
        let limit = RateLimit(count: 1, period: .seconds(100))
        let gate = Gate.simulated(rateLimit: limit)
        // Takes the only start.
        #expect(await gate.enter()?.isProbe == false)
        let pipeline = JobPipeline.simulated(in: world, journal, gate: gate)
        let delivery = try #require(world.deliver())
        let waiting = Task { await pipeline.take(delivery) }
        // The second start is 100 s away: the job waits until the drain sends it back.
        try await eventually("the job waits") { gate.waiting > 0 }
        #expect(journal.count == 0)
        gate.drain()
        await waiting.value
        #expect(world.copies.map(\.routingKey) == ["q.retry.1ms"])
        #expect(world.submissions == 0)
    }

    @Test func `the mark is about earlier attempts, the charge about all`() async throws {
        // Put off, then silence: only the last may have been accepted.
        let late = Self.world([Self.answered(408), .failed(.timedOut)])
        await Self.runAll(late, .simulated(in: late, MemoryJournal()))
        #expect(late.replies.first?["charged"]?.text == "maybe")
        #expect(late.replies.first?["may_be_duplicate"] == nil)
        let only = Self.world([Self.answered(500)])
        await Self.runAll(only, .simulated(in: only, MemoryJournal(), maxAttempts: 1))
        #expect(only.replies.first?["error"]?["code"]?.text == "retries_exhausted")
        #expect(only.replies.first?["charged"]?.text == "maybe")
        #expect(only.replies.first?["may_be_duplicate"] == nil)
        let twice = Self.world([Self.answered(500)])
        await Self.runAll(twice, .simulated(in: twice, MemoryJournal(), maxAttempts: 2))
        #expect(twice.replies.first?["charged"]?.text == "maybe")
        #expect(twice.replies.first?["may_be_duplicate"] == .boolean(true))
    }

    @Test func `who accepts a double charge keeps the mark, also where no journal knows of the first`() async throws {
        func replay(_ answer: SubmissionResult) async -> SimulatedWorld {
            let world = Self.world([answer]) {
                $0.headers = ["x-accept-double-charge": .boolean(true), "x-replay-count": .int64(1)]
            }
            await Self.runAll(world, .simulated(in: world, MemoryJournal()))
            return world
        }
        let accepted = await replay(Self.accepted.result)
        #expect(accepted.replies.first?["may_be_duplicate"] == .boolean(true))
        let refused = await replay(Self.answered(422))
        #expect(refused.replies.first?["charged"]?.text == "maybe")
        #expect(refused.unknown == 1)
    }

    @Test func `a verdict that the store did not take is kept, and nothing begins before it is written`() async throws {
        let journal = FailingJournal(MemoryJournal())
        let gate = Gate.simulated()
        let world = Self.world([Self.accepted.result])
        let pipeline = JobPipeline.simulated(in: world, journal, gate: gate)
        journal.fails.withLockedValue { $0 = [.finish] }
        await Self.runAll(world, pipeline)
        #expect(world.replies.first?["task_id"]?.text == "t")
        #expect(gate.closure?.reason == .journal)
        // The same job again, in another delivery; the store still fails, and then no longer.
        let again = try #require(
            SimulatedWorld(body: Self.body, answers: { _ in Self.accepted }).deliver()
        )
        try await eventually("the gate lets a probe through") {
            await pipeline.take(again)
            return world.copies.contains { $0.routingKey == "q.retry.1ms" }
        }
        journal.fails.withLockedValue { $0 = [] }
        try await eventually("the copy is answered") {
            await pipeline.take(again)
            return world.replies.contains { $0["duplicate_of_delivery"] == .boolean(true) }
        }
        #expect(world.submissions == 1)
    }

    @Test func `a waiting copy takes a definite no, and a later publication is a new job`() async throws {
        let journal = JobJournal(MemoryJournal())
        let request = JournalRequest(id: "j", digest: BodyDigest([1]))
        let no = JobFailure(.apiRejected, "no", httpStatus: 422)
        let told = PriorSubmission.failed(no, attempts: 1, mayBeDuplicate: false)
        let first = Gatekeeper()
        let submission = Task {
            try await journal.recording(request) { answer in
                await first.pass()
                return (answer, .failed(no))
            }
        }
        try await eventually("it is under way") { first.isWaitedAt }
        let copies = (0..<5).map { _ in Task { try await journal.recording(request) { ($0, .released) } } }
        let other = Task {
            try await journal.recording(JournalRequest(id: "j", digest: BodyDigest([2]))) { ($0, .released) }
        }
        try await eventually("all wait") { journal.waiting(for: "j") == 6 }
        first.open()
        #expect(try await submission.value == .never)
        for copy in copies { #expect(try await copy.value == told) }
        #expect(try await other.value == .never)
        #expect(try await journal.recording(request) { ($0, .released) } == .never)
    }

    @Test func `a submission that throws is released, or stays marked`() async throws {
        struct Stop: Error {}
        let journal = JobJournal(MemoryJournal())
        let request = JournalRequest(id: "j", digest: BodyDigest([1]))
        await #expect(throws: Stop.self) {
            try await journal.recording(request) { (_) -> (Int, JobEnd) in throw Stop() }
        }
        _ = try await journal.recording(request) { ($0, .retrying(attempts: 1)) }
        await #expect(throws: Stop.self) {
            try await journal.recording(request) { (_) -> (Int, JobEnd) in throw Stop() }
        }
        let answer = try await journal.recording(request) {
            ($0, .accepted(taskID: "t", at: Timestamp(milliseconds: 1)))
        }
        // The one that threw has sent nothing, and does not count.
        #expect(answer == .possible(attempts: 1))
        let known = PriorSubmission.accepted(
            taskID: "t",
            attempts: 2,
            mayBeDuplicate: true,
            at: Timestamp(milliseconds: 1)
        )
        #expect(try await journal.recording(request) { ($0, .released) } == known)
    }

    @Test func `a copy that another process is at goes back, and takes that verdict later`() async throws {
        let path = TemporaryFile.path("journal")
        let other = try SQLiteJournal(path: path)
        var request = JournalRequest(id: "job", digest: BodyDigest(Array(Self.body.utf8)))
        let world = Self.world([Self.answered(422)])
        let mine = try SQLiteJournal(path: path)
        let pipeline = JobPipeline.simulated(in: world, mine)
        // The other's digest is that of what it submits, and so must be ours: it submits the same job.
        let submitted = SimulatedWorld(body: Self.body) { _ in Self.accepted }
        let recorder = RecordingJournal()
        await Self.runAll(submitted, .simulated(in: submitted, recorder))
        request.digest = try #require(recorder.digest.withLockedValue { $0 })
        _ = try await other.begin(request)
        #expect(await world.step(pipeline))
        #expect(world.copies.last?.properties.headers?["x-awaits-verdict"] == .boolean(true))
        try await other.finish("job", .failed(JobFailure(.apiRejected, "no", httpStatus: 422)))
        #expect(await world.step(pipeline))
        #expect(world.replies.first?["error"]?["code"]?.text == "api_rejected")
        #expect(world.submissions == 0)
        #expect(world.copies.last?.properties.headers?["x-awaits-verdict"] == nil)
        await other.close()
        await mine.close()
    }

    @Test func `ids that differ in a byte are different jobs`() async throws {
        let ids: [ByteString] = [
            ByteString([0xFF]), ByteString([0xFE]), ByteString("%FF"), ByteString("a\u{0}b"), ByteString("a\u{0}c"),
            // The same text to Unicode, in two normal forms.
            ByteString("\u{E9}"), ByteString("e\u{301}"),
        ]
        for isKept in [false, true] {
            let journal: any SubmissionJournal =
                isKept ? try SQLiteJournal(path: TemporaryFile.path("journal")) : MemoryJournal()
            for id in ids {
                let world = Self.world([Self.accepted.result]) { $0.messageID = id }
                await Self.runAll(world, .simulated(in: world, journal))
                #expect(world.submissions == 1, "\(id.bytes) \(isKept)")
            }
            await journal.close()
        }
    }

    @Test func `a delivery whose connection is gone is neither submitted nor settled, but what cost money is told`()
        async throws
    {
        let gone = Self.world([Self.accepted.result])
        gone.liveness.withLockedValue { $0 = { false } }
        await JobPipeline.simulated(in: gone, MemoryJournal()).take(try #require(gone.deliver()))
        #expect(gone.submissions == 0)
        #expect(gone.seen == [.journalBegin, .journalFinish])
        #expect(!gone.isDone)
        // It goes while the job is being submitted.
        for (answer, isTold) in [
            // The journal keeps an unknown for the next delivery, which tells it: once.
            (Self.accepted.result, true), (Self.answered(422), false), (.failed(.timedOut), false),
        ] {
            let world = Self.world([answer])
            world.liveness.withLockedValue { $0 = { world.submissions == 0 } }
            await JobPipeline.simulated(in: world, MemoryJournal()).take(try #require(world.deliver()))
            #expect(world.replies.count == (isTold ? 1 : 0))
            #expect(world.submissions == 1)
        }
    }

    @Test func `an unknown of a delivery that is gone is told once, by the next`() async throws {
        let journal = MemoryJournal()
        let world = Self.world([.failed(.timedOut)])
        let pipeline = JobPipeline.simulated(in: world, journal)
        world.liveness.withLockedValue { $0 = { world.submissions == 0 } }
        await pipeline.take(try #require(world.deliver()))
        #expect(world.replies.isEmpty && world.unknown == 0)
        world.liveness.withLockedValue { $0 = { true } }
        #expect(await world.step(pipeline))
        #expect(world.replies.count == 1)
        #expect(world.unknown == 1)
        #expect(world.submissions == 1)
        #expect(world.isDone)
    }

    @Test func `a delivery that the broker may have taken back goes back to it, and nothing is told`() async throws {
        for isCancelled in [false, true] {
            let world = Self.world([Self.answered(200, #"{"task_id":"t"}"#)])
            let pipeline = JobPipeline.simulated(in: world, WithdrawnJournal(isCancelled: isCancelled))
            let delivery = try #require(world.deliver())
            await pipeline.take(delivery)
            #expect(world.rejected == [true])
            #expect(world.submissions == 0 && world.replies.isEmpty && world.copies.isEmpty)
        }
    }

    @Test func `a delivery that goes while its job waits is not submitted`() async throws {
        // Live until the journal has its entry: what comes after that are the waits for requester and start.
        let world = Self.world([Self.accepted.result]) { $0.replyTo = "amq.rabbitmq.reply-to.x" }
        let delivery = try #require(world.deliver())
        let pipeline = JobPipeline.simulated(in: world, MemoryJournal())
        world.liveness.withLockedValue { $0 = { world.seen.isEmpty } }
        await pipeline.take(delivery)
        #expect(world.submissions == 0)
        #expect(world.seen == [.journalBegin, .journalFinish])
    }

    @Test(arguments: [DoubtPolicy.park, .retry])
    func `a job without an id that was delivered before is in doubt`(_ policy: DoubtPolicy) async throws {
        let world = Self.world([Self.accepted.result]) { $0.messageID = nil }
        _ = world.deliver()
        await Self.runAll(world, .simulated(in: world, MemoryJournal(), noAnswer: policy))
        let reply = try #require(world.replies.first)
        #expect(world.submissions == (policy == .park ? 0 : 1))
        #expect(reply["error"]?["code"]?.text == (policy == .park ? "outcome_unknown" : nil))
        #expect(reply["may_be_duplicate"] == (policy == .park ? nil : .boolean(true)))
        #expect(world.unknown == (policy == .park ? 1 : 0))
    }

    @Test func `a mark that only the journal knows goes with the job when the gate closes`() async throws {
        let journal = MemoryJournal()
        let digest = BodyDigest(try EditJob(parsing: Self.body.utf8).requestBody())
        _ = try await journal.begin(JournalRequest(id: "job", digest: digest))
        try await journal.finish("job", .retrying(attempts: 1))
        let gate = Gate.simulated()
        let world = Self.world([Self.accepted.result]) { $0.replyTo = "amq.rabbitmq.reply-to.x" }
        let closing = ClosingPublisher(world: world, gate: gate)
        let pipeline = JobPipeline.simulated(in: world, journal, gate: gate, publisher: closing)
        let delivery = try #require(world.deliver())
        await pipeline.take(delivery)
        #expect(world.submissions == 0)
        let copy = try #require(world.copies.first)
        #expect(copy.properties.headers?["x-may-be-duplicate"] == .boolean(true))
        #expect(copy.properties.headers?["x-attempts"]?.integer == 1)
    }

    @Test func `a body that was too large to be kept is left to who takes the undelivered`() async throws {
        let world = Self.world([Self.accepted.result])
        let delivery = Delivery(
            tag: DeliveryTag(epoch: 1, number: 1),
            routingKey: "q",
            properties: MessageProperties(),
            body: [],
            bodySize: 100 << 20,
            acknowledger: world
        )
        await JobPipeline.simulated(in: world, MemoryJournal()).take(delivery)
        #expect(world.rejected == [false])
        #expect(world.replies.isEmpty && world.deadLetters == 0 && world.submissions == 0)
    }

    @Test func `a job that cannot be settled for its own reason goes back to the queue`() async throws {
        let world = Self.world([Self.answered(422)])
        let delivery = try #require(world.deliver())
        let pipeline = JobPipeline.simulated(in: world, MemoryJournal(), publisher: RefusingPublisher())
        await pipeline.take(delivery)
        #expect(world.rejected == [true])
    }
}

/// A place at which tasks wait until it is opened.
private final class Gatekeeper: Sendable {
    private let state = NIOLockedValueBox<(isOpen: Bool, waiters: [CheckedContinuation<Void, Never>])>((false, []))

    var isWaitedAt: Bool { state.withLockedValue { !$0.waiters.isEmpty } }

    func pass() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLockedValue { state in
                if !state.isOpen { state.waiters.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    func open() {
        let waiters = state.withLockedValue { state in
            defer { state = (true, []) }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
}

/// A publisher whose answer about a requester comes after the gate has closed.
private struct ClosingPublisher: MessagePublisher {
    let world: SimulatedWorld
    let gate: Gate

    func publish(_ message: OutboundMessage, for delivery: Delivery?) async throws -> PublishResult {
        try await world.publish(message, for: delivery)
    }
    func exists(queue: ByteString) async throws -> Bool? {
        var other = await gate.enter()
        _ = other?.leave(.serviceFault(.init(reason: .auth, retryAfter: .seconds(3600))), job: "other")
        return true
    }
    func restoreTopology() async throws {}
    var frameMax: Int { get async throws { 131_072 } }
}

/// A publisher for which every message is too large.
private struct RefusingPublisher: MessagePublisher {
    func publish(_ message: OutboundMessage, for delivery: Delivery?) async throws -> PublishResult {
        throw AMQPError(.tooLarge, "too large")
    }
    func exists(queue: ByteString) async throws -> Bool? { true }
    func restoreTopology() async throws {}
    var frameMax: Int { get async throws { 4096 } }
}

/// A journal that fails if it is told to.
private final class FailingJournal: SubmissionJournal {
    enum Call { case begin, finish }

    let fails = NIOLockedValueBox<Set<Call>>([])
    private let journal: any SubmissionJournal

    init(_ journal: any SubmissionJournal) { self.journal = journal }

    func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        if fails.withLockedValue({ $0.contains(.begin) }) { throw JournalFault(description: "broken") }
        return try await journal.begin(request)
    }
    func finish(_ id: String, _ end: JobEnd) async throws(JournalFault) {
        if fails.withLockedValue({ $0.contains(.finish) }) { throw JournalFault(description: "broken") }
        try await journal.finish(id, end)
    }
    func acknowledged(_ id: String) async throws(JournalFault) { try await journal.acknowledged(id) }
    func sweep(before moment: Int64) async throws(JournalFault) {}
    func close() async {}
}

/// A journal that lets everything through and keeps the last digest.
private final class RecordingJournal: SubmissionJournal {
    let digest = NIOLockedValueBox<BodyDigest?>(nil)

    func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        digest.withLockedValue { $0 = request.digest }
        return .never
    }
    func finish(_ id: String, _ end: JobEnd) async throws(JournalFault) {}
    func acknowledged(_ id: String) async throws(JournalFault) {}
    func sweep(before moment: Int64) async throws(JournalFault) {}
    func close() async {}
}

/// A journal for which the broker has taken every job out of its queue.
private struct WithdrawnJournal: SubmissionJournal {
    let isCancelled: Bool

    func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission { .withdrawn }
    func finish(_ id: String, _ end: JobEnd) async throws(JournalFault) {}
    func acknowledged(_ id: String) async throws(JournalFault) {}
    func isCancelled(_ id: String) -> Bool { isCancelled }
    func sweep(before moment: Int64) async throws(JournalFault) {}
    func close() async {}
}
