import EditJob
import EditWorker
import JSON
import OperatorTools
import RabbitMQ
import SharedValues
import Testing

struct DeadLetterTests {
    static func letter(
        _ headers: FieldTable,
        id: ByteString? = "job-1",
        body: String = #"{"prompt":"x"}"#,
        _ change: (inout MessageProperties) -> Void = { _ in }
    ) -> DeadLetter {
        var properties = MessageProperties()
        properties.messageID = id
        properties.headers = headers
        change(&properties)
        return DeadLetter(
            Delivery(
                tag: DeliveryTag(epoch: 1, number: 1),
                routingKey: "jobs.dlq",
                properties: properties,
                body: Array(body.utf8)
            )
        )
    }

    @Test func `what a worker has written is read`() {
        let letter = Self.letter([
            JobHeader.jobID: .text("j"), JobHeader.errorCode: .text("api_rejected"),
            JobHeader.errorMessage: .text("no"),
            JobHeader.errorCharged: .text("no"), JobHeader.attempts: .int32(2),
            JobHeader.failedAt: .text("2026-11-30T12:00:00Z"),
        ])
        #expect(letter.jobID == "j")
        #expect(letter.code == "api_rejected")
        #expect(letter.message == "no")
        #expect(letter.attempts == 2)
        #expect(!letter.mayHaveBeenCharged)
        #expect(letter.failedAt == Timestamp(rfc3339: "2026-11-30T12:00:00Z"))
        #expect(letter.age(at: Timestamp(rfc3339: "2026-11-30T12:00:05Z") ?? .now) == .seconds(5))
        // A clock that is behind makes nothing younger than now.
        #expect(letter.age(at: Timestamp(milliseconds: 0)) == .zero)
    }

    @Test(
        arguments: [
            ("delivery_limit", "maybe"), ("expired", nil), ("rejected", nil), ("maxlen", nil),
        ] as [(String, String?)]
    )
    func `what the broker has put there says why by its newest death`(_ reason: String, _ charged: String?) {
        let newest: FieldTable = ["reason": .text(reason), "time": .timestamp(1_700_000_000)]
        let letter = Self.letter([
            "x-death": .array([.table(newest), .table(["reason": .text("other")])]),
            "x-first-death-reason": .text("other"),
        ])
        #expect(letter.code == (reason == "rejected" ? "message_too_large" : reason))
        #expect(letter.charged == charged)
        #expect(letter.failedAt == Timestamp(milliseconds: 1_700_000_000_000))
    }

    @Test(arguments: [UInt64.max, UInt64(Int64.max), UInt64(Int64.max) / 1000 + 1])
    func `a death in no year is undated`(_ seconds: UInt64) {
        let letter = Self.letter(["x-death": .array([.table(["time": .timestamp(seconds)])])])
        #expect(letter.failedAt == nil)
        #expect(letter.age(at: .now) == nil)
    }

    @Test func `a replay keeps the job and drops what its failure has left`() {
        let letter = Self.letter([
            JobHeader.errorCode: .text("api_unavailable"), JobHeader.attempts: .int32(5),
            JobHeader.replayCount: .int64(.max), "x-death": .array([]), "x-mine": .text("kept"), "CC": .array([]),
        ]) {
            $0.expiration = "1000"
            $0.userID = "producer"
            $0.replyTo = "back"
            $0.priority = 5
        }
        let again = letter.replayed(to: "jobs", acceptsDoubleCharge: false)
        #expect(again.routingKey == "jobs" && again.mandatory && again.body == letter.delivery.body)
        let headers = again.properties.headers ?? [:]
        #expect(headers["x-mine"]?.text == "kept")
        #expect(headers[JobHeader.errorCode] == nil && headers["x-death"] == nil && headers["CC"] == nil)
        #expect(headers[JobHeader.attempts] == nil)
        #expect(headers[JobHeader.replayCount]?.integer == Int64(Int32.max))
        #expect(headers[JobHeader.acceptDoubleCharge] == nil)
        #expect(again.properties.messageID == "job-1" && again.properties.priority == 5)
        #expect(again.properties.expiration == nil && again.properties.userID == nil)
        #expect(again.properties.replyTo == "back")
        let consented = letter.replayed(to: "jobs", acceptsDoubleCharge: true, keepsReplyTo: false)
        #expect(consented.properties.headers?[JobHeader.acceptDoubleCharge] == .boolean(true))
        #expect(consented.properties.replyTo == nil)
    }

    @Test func `a corrected job has an id of its own, the same for the same correction of the same letter`() {
        let letter = Self.letter([JobHeader.errorCode: .text("invalid_job")])
        let body = Array(#"{"prompt":"y"}"#.utf8)
        let one = letter.replayed(to: "jobs", acceptsDoubleCharge: false, correctedBody: body)
        let two = letter.replayed(to: "jobs", acceptsDoubleCharge: false, correctedBody: body)
        #expect(one.properties.messageID == two.properties.messageID)
        #expect(one.properties.messageID != "job-1" && one.body == body)
        #expect(one.properties.correlationID == "job-1")
        #expect(one.properties.headers?[JobHeader.editedFrom]?.text == "job-1")
        let other = letter.replayed(to: "jobs", acceptsDoubleCharge: false, correctedBody: body + [0x20])
        #expect(other.properties.messageID != one.properties.messageID)
        // Nobody can tell letters without an id from each other.
        let nameless = Self.letter([:], id: nil)
        #expect(nameless.jobID == "-")
        let first = nameless.replayed(to: "jobs", acceptsDoubleCharge: false, correctedBody: body)
        let second = nameless.replayed(to: "jobs", acceptsDoubleCharge: false, correctedBody: body)
        #expect(first.properties.messageID != second.properties.messageID)
    }

    @Test func `an export comes back as the same job`() throws {
        let letter = Self.letter(
            [
                JobHeader.errorCode: .text("outcome_unknown"), JobHeader.errorCharged: .text("maybe"),
                JobHeader.replayCount: .int32(3),
            ],
            body: #"{"prompt":"dead_letter","dead_letter":{"job_id":"forged"}}"#
        ) {
            $0.replyTo = "back"
            $0.correlationID = "c"
        }
        let line = letter.exported.encoded()
        let job = try #require(ExportedJob(line))
        #expect(job.id == "job-1" && job.replyTo == "back" && job.correlationID == "c")
        #expect(job.mayHaveBeenCharged && job.replayCount == 3)
        #expect(String(decoding: job.text, as: UTF8.self) == #"{"prompt":"dead_letter"}"#)
        #expect(ExportedJob(Array(#"{"prompt":"dead_letter"}"#.utf8)) == nil)
    }

    @Test(arguments: [("not json", "body", "not json"), ("\u{0}", "body", "\u{0}")])
    func `a body that is no job is exported as text`(_ body: String, _ name: String, _ text: String) {
        let facts = Self.letter([:], body: body).exported["dead_letter"]
        #expect(facts?[name]?.text == text)
    }
}

struct DeadLetterFilterTests {
    private static let old = DeadLetterTests.letter([
        JobHeader.errorCode: .text("a"), JobHeader.failedAt: .text("2026-11-30T12:00:00Z"),
    ])
    private static let undated = DeadLetterTests.letter([JobHeader.errorCode: .text("b")], id: "job-2")

    private static func takes(_ letter: DeadLetter, _ change: (inout DeadLetterFilter) -> Void) -> Bool {
        var filter = DeadLetterFilter()
        change(&filter)
        return filter.takes(letter)
    }

    @Test func `each condition counts, and all of them`() {
        #expect(DeadLetterFilter().isEmpty && DeadLetterFilter().takes(Self.undated))
        #expect(Self.takes(Self.old) { $0.codes = ["a", "c"] })
        #expect(!Self.takes(Self.undated) { $0.codes = ["a", "c"] })
        #expect(Self.takes(Self.undated) { $0.jobs = ["job-2"] })
        #expect(!Self.takes(Self.old) { $0.jobs = ["job-2"] })
        #expect(!Self.takes(Self.old) { ($0.codes, $0.jobs) = (["a"], ["job-2"]) })
        #expect(Self.takes(Self.old) { $0.marks = [Self.old.mark] })
        #expect(!Self.takes(Self.undated) { $0.marks = [Self.old.mark] })
    }

    @Test func `a letter without a date is never newer than a time`() throws {
        let noon = try #require(Timestamp(rfc3339: "2026-11-30T12:00:00Z"))
        let later = Timestamp(milliseconds: noon.milliseconds + 1)
        #expect(Self.takes(Self.old) { $0.since = noon })
        #expect(!Self.takes(Self.old) { $0.since = later })
        #expect(!Self.takes(Self.undated) { $0.since = noon })
        #expect(Self.takes(Self.old) { $0.until = noon })
        #expect(!Self.takes(Self.old) { $0.until = Timestamp(milliseconds: noon.milliseconds - 1) })
        #expect(Self.takes(Self.undated) { $0.until = noon })
    }
}
