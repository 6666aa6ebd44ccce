import EditJob
import EditWorker
import JSON
import Journal
import RabbitMQ
import SeedreamAPI
import SharedValues
import TestSupport
import Testing

/// Jobs that the broker took out of their queue.
struct UndeliveredJobsTests {
    private static let body = #"{"image_urls":["https://a/b.png"],"prompt":"x"}"#

    private static func death(_ reason: String) -> FieldTable {
        [
            "x-death": .array([
                .table([
                    "reason": .text(reason), "queue": .text("q"), "exchange": .text("door"),
                    "routing-keys": .array([.text("q")]),
                ])
            ])
        ]
    }

    private static func world(_ reason: String = "expired", id: ByteString? = "job") -> SimulatedWorld {
        SimulatedWorld(body: body) {
            $0.headers = death(reason)
            $0.messageID = id
        } answers: { _ in
            (.failed(.timedOut), false)
        }
    }

    /// Takes the world's job with a journal that `prepare` has made.
    private static func take(
        in world: SimulatedWorld,
        covers: Bool = true,
        _ prepare: (MemoryJournal, BodyDigest) async throws -> Void = { _, _ in }
    ) async throws {
        let journal = MemoryJournal()
        let digest = try BodyDigest(EditJob(parsing: body.utf8, unknownFields: .reject).requestBody())
        try await prepare(journal, digest)
        let delivery = try #require(world.deliver())
        await UndeliveredJobs.simulated(in: world, CoveringJournal(journal: journal, covers: covers)).take(delivery)
    }

    @Test(arguments: [("expired", "expired"), ("maxlen", "expired"), ("delivery_limit", "delivery_limit")])
    func `a job that no worker has submitted has cost nothing`(_ reason: String, _ code: String) async throws {
        let world = Self.world(reason)
        try await Self.take(in: world)
        let reply = try #require(world.replies.first)
        #expect(reply["error"]?["code"]?.text == code)
        #expect(reply["charged"]?.text == "no")
        #expect(world.replies.count == 1 && world.submissions == 0 && world.isDone)
        let letter = try #require(world.copies.first)
        #expect(letter.routingKey == "q.dlq" && world.copies.count == 1)
        #expect(letter.properties.headers?["x-original-exchange"]?.text == "door")
        #expect(letter.properties.headers?["x-original-routing-key"]?.text == "q")
        #expect(letter.properties.headers?["x-death"] == nil)
    }

    @Test func `what the journal does not cover may have cost`() async throws {
        for world in [Self.world(), Self.world(id: nil)] {
            try await Self.take(in: world, covers: world.replies.isEmpty ? false : true)
            #expect(world.replies.first?["charged"]?.text == "maybe")
            #expect(world.replies.first?["error"]?["code"]?.text == "expired")
            #expect(world.copies.first?.routingKey == "q.unknown")
        }
    }

    @Test func `a job that was accepted is told so`() async throws {
        let world = Self.world()
        try await Self.take(in: world) { journal, digest in
            _ = try await journal.begin(JournalRequest(id: "job", digest: digest, attempts: 1))
            try await journal.finish("job", JobEnd(.accepted(taskID: "t"), attempts: 1))
        }
        #expect(world.replies.first?["task_id"]?.text == "t")
        #expect(world.replies.first?["duplicate_of_delivery"] == .boolean(true))
        #expect(world.copies.isEmpty && world.isDone)
    }

    @Test func `a job whose submission has no known end may have cost`() async throws {
        let world = Self.world("delivery_limit")
        try await Self.take(in: world) { journal, digest in
            _ = try await journal.begin(JournalRequest(id: "job", digest: digest, attempts: 1))
            try await journal.finish("job", .retrying(attempts: 1))
        }
        #expect(world.replies.first?["charged"]?.text == "maybe")
        #expect(world.replies.first?["error"]?["code"]?.text == "delivery_limit")
        #expect(world.copies.first?.routingKey == "q.unknown")
    }

    @Test func `a job that was refused is told so again`() async throws {
        let world = Self.world()
        try await Self.take(in: world) { journal, digest in
            _ = try await journal.begin(JournalRequest(id: "job", digest: digest, attempts: 1))
            let failure = JobFailure(.apiRejected, "no", httpStatus: 422)
            try await journal.finish("job", JobEnd(.refused(failure), attempts: 1))
        }
        #expect(world.replies.first?["error"]?["code"]?.text == "api_rejected")
        #expect(world.copies.first?.properties.headers?["x-error-code"]?.text == "api_rejected")
    }

    @Test func `what is no job under these settings is told so, or if it was one, that it may have cost`() async throws
    {
        for (isKnown, charged, code) in [(false, "no", "invalid_job"), (true, "maybe", "expired")] {
            let world = SimulatedWorld(body: "{}") {
                $0.headers = Self.death("expired")
            } answers: { _ in
                (.failed(.timedOut), false)
            }
            try await Self.take(in: world) { journal, digest in
                guard isKnown else { return }
                _ = try await journal.begin(JournalRequest(id: "job", digest: digest, attempts: 1))
                try await journal.finish("job", .retrying(attempts: 1))
            }
            #expect(world.replies.first?["charged"]?.text == charged)
            #expect(world.replies.first?["error"]?["code"]?.text == code)
        }
    }

    @Test func `a body that is not kept, of a job that was accepted, may have cost`() async throws {
        let world = Self.world("rejected")
        let journal = MemoryJournal()
        _ = try await journal.begin(JournalRequest(id: "job", digest: BodyDigest([1]), attempts: 1))
        try await journal.finish("job", JobEnd(.accepted(taskID: "t"), attempts: 1))
        var properties = MessageProperties()
        properties.messageID = "job"
        let delivery = Delivery(
            tag: DeliveryTag(epoch: 1, number: 1),
            routingKey: "q.undelivered",
            properties: properties,
            body: [],
            bodySize: 2000,
            acknowledger: world
        )
        await UndeliveredJobs.simulated(in: world, journal).take(delivery)
        #expect(world.replies.first?["charged"]?.text == "maybe")
    }

    @Test func `a body that is not kept is told, and the broker dead-letters it`() async throws {
        let world = Self.world("rejected")
        let delivery = Delivery(
            tag: DeliveryTag(epoch: 1, number: 1),
            routingKey: "q.undelivered",
            properties: MessageProperties(),
            body: [],
            bodySize: 100 << 20,
            acknowledger: world
        )
        await UndeliveredJobs.simulated(in: world, MemoryJournal()).take(delivery)
        #expect(world.rejected == [false])
        #expect(world.replies.first?["error"]?["code"]?.text == "message_too_large")
        #expect(world.replies.first?["error"]?["message"]?.text?.contains("104857600 bytes") == true)
        #expect(world.replies.first?["charged"]?.text == "no")
        #expect(world.copies.isEmpty)
    }
}

/// A journal that knows of all submissions, or says that it does not.
private struct CoveringJournal: SubmissionJournal {
    let journal: MemoryJournal
    let covers: Bool

    func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        try await journal.begin(request)
    }

    func finish(_ id: String, _ end: JobEnd) async throws(JournalFault) { try await journal.finish(id, end) }

    func acknowledged(_ id: String) async throws(JournalFault) { try await journal.acknowledged(id) }

    func doubt() -> DeliveryMark { DeliveryMark(isInDoubt: !covers) }

    func sweep(before moment: Int64) async throws(JournalFault) {}

    func close() async {}
}
