import EditJob
import EditWorker
import JSON
import RabbitMQ
import SharedValues
import Testing

struct JobCopyTests {
    private static func received(_ change: (inout MessageProperties) -> Void = { _ in }) -> ReceivedJob {
        var properties = MessageProperties()
        properties.messageID = "job-1"
        change(&properties)
        let delivery = Delivery(
            tag: DeliveryTag(epoch: 1, number: 1),
            exchange: "ex",
            routingKey: "key",
            properties: properties,
            body: [0, 255, 10]
        )
        return ReceivedJob(delivery, now: Timestamp(milliseconds: 0), freshID: { "fresh" })
    }

    private static func copy(_ received: ReceivedJob, frameMax: Int = 131_072) -> OutboundMessage {
        JobCopy(frameMax: frameMax).message(of: received, to: "q.dlq", adding: [JobHeader.attempts: .int32(2)])
    }

    @Test func `a copy keeps the body, the properties and the headers`() {
        let message = Self.copy(
            Self.received { properties in
                properties.contentType = "application/json"
                properties.correlationID = ByteString([0xFF])
                properties.replyTo = "back"
                properties.priority = 7
                properties.headers = ["mine": .array([.void, .decimal(scale: 1, value: 2)]), "x-attempts": .int64(1)]
            }
        )
        #expect(message.body == [0, 255, 10])
        #expect(message.routingKey == "q.dlq")
        #expect(message.mandatory)
        #expect(message.properties.deliveryMode == 2)
        #expect(message.properties.correlationID == ByteString([0xFF]))
        #expect(message.properties.replyTo == "back")
        #expect(message.properties.priority == 7)
        let headers = message.properties.headers ?? [:]
        #expect(headers["mine"] == .array([.void, .decimal(scale: 1, value: 2)]))
        #expect(headers["x-attempts"] == .int32(2))
        #expect(headers.entries.filter { $0.name == "x-attempts" }.count == 1)
        #expect(headers["x-original-exchange"] == .text("ex"))
        #expect(headers["x-original-routing-key"] == .text("key"))
        #expect(headers["x-first-received-at"] == .text("1970-01-01T00:00:00.000Z"))
    }

    @Test func `what would break or misroute the copy is kept under another name`() {
        let message = Self.copy(
            Self.received { properties in
                properties.expiration = "60000"
                properties.userID = "someone"
                properties.headers = [
                    "CC": .array([.text("elsewhere")]), "BCC": .array([.text("secret")]), "x-death": .array([]),
                    "x-first-death-queue": .text("q"), "x-last-death-reason": .text("expired"),
                    "x-delivery-count": .int64(3),
                ]
            }
        )
        #expect(message.properties.expiration == nil)
        #expect(message.properties.userID == nil)
        let headers = message.properties.headers ?? [:]
        let gone: [ByteString] = [
            "CC", "BCC", "x-death", "x-first-death-queue", "x-last-death-reason", "x-delivery-count",
        ]
        for name in gone { #expect(headers[name] == nil, "\(name)") }
        #expect(headers["x-original-expiration"] == .text("60000"))
        #expect(headers["x-original-user-id"] == .text("someone"))
        #expect(headers["x-original-cc"] == .array([.text("elsewhere")]))
        #expect(headers["x-original-bcc"] == .array([.text("secret")]))
    }

    @Test func `what an earlier end has left is not taken for this one's`() {
        let message = Self.copy(
            Self.received { properties in
                properties.headers = [
                    "x-error-code": .text("invalid_job"), "x-error-violations": .text("[]"), "x-http-status": .int32(1),
                    "x-task-id": .text("t"), "x-failed-at": .text("then"), "x-worker": .text("w"),
                    "x-undeliverable-reply-to": .text("r"), "x-awaits-verdict": .boolean(true), "mine": .text("kept"),
                ]
            }
        )
        let names = Set((message.properties.headers ?? [:]).entries.map(\.name.text))
        for name in [
            "x-error-code", "x-error-violations", "x-http-status", "x-task-id", "x-failed-at", "x-worker",
            "x-undeliverable-reply-to", "x-awaits-verdict",
        ] {
            #expect(!names.contains(name), "\(name)")
        }
        #expect(names.contains("mine"))
    }

    @Test func `headers that were left out are counted over all copies`() {
        let big = FieldValue.text(String(repeating: "x", count: 3000))
        let message = Self.copy(
            Self.received { $0.headers = ["a": big, "b": big, "x-headers-dropped": .int32(4)] },
            frameMax: 4096
        )
        #expect(message.properties.headers?["x-headers-dropped"] == .int32(5))
        let kept = Self.copy(Self.received { $0.headers = ["x-headers-dropped": .int32(4)] })
        #expect(kept.properties.headers?["x-headers-dropped"] == .int32(4))
        let silly = Self.copy(
            Self.received { $0.headers = ["a": big, "b": big, "x-headers-dropped": .int64(.max)] },
            frameMax: 4096
        )
        #expect(silly.properties.headers?["x-headers-dropped"] == .int32(.max))
    }

    @Test func `numbers that a producer makes up harm nobody`() {
        let received = Self.received {
            $0.headers = ["x-attempts": .int64(.max), "x-replay-count": .int64(.min)]
            $0.messageID = ByteString([UInt8](repeating: 0xFF, count: 255))
        }
        #expect(received.attempts == 1_000_000)
        #expect(received.replayCount == 0)
        #expect(received.correlationID.bytes.count == 255)
        #expect(Self.received { $0.headers = ["x-attempts": .int64(-5)] }.attempts == 0)
        let anonymous = Self.received {
            $0.messageID = nil
            $0.headers = ["x-job-id": .text(String(repeating: "y", count: 256))]
        }
        #expect(anonymous.id == "fresh")
    }

    @Test func `where a job came from survives every retry`() {
        let retried = Self.copy(Self.received())
        let again = Delivery(
            tag: DeliveryTag(epoch: 1, number: 2),
            exchange: "",
            routingKey: "q",
            properties: retried.properties,
            body: retried.body
        )
        let second = Self.copy(ReceivedJob(again, freshID: { "other" }))
        #expect(second.properties.headers?["x-original-exchange"] == .text("ex"))
        #expect(second.properties.headers?["x-original-routing-key"] == .text("key"))
        #expect(second.properties.headers?["x-first-received-at"] == .text("1970-01-01T00:00:00.000Z"))
    }

    @Test func `an id that the worker made up stays the job's`() {
        let first = Self.received { $0.messageID = nil }
        #expect(first.id == "fresh")
        #expect(first.isAnonymous)
        let copy = Self.copy(first)
        let again = Delivery(
            tag: DeliveryTag(epoch: 1, number: 2),
            routingKey: "q",
            properties: copy.properties,
            body: []
        )
        #expect(ReceivedJob(again, freshID: { "other" }).id == "fresh")
    }

    @Test func `a copy always fits the frame, the largest headers going first`() {
        let message = Self.copy(
            Self.received { properties in
                properties.headers = [
                    "small": .text("s"), "large": .text(String(repeating: "l", count: 60_000)),
                    "largest": .text(String(repeating: "x", count: 70_000)),
                    "CC": .text(String(repeating: "c", count: 65_000)),
                ]
            }
        )
        let headers = message.properties.headers ?? [:]
        #expect(headers["largest"] == nil)
        #expect(headers["small"] == .text("s"))
        #expect(headers["x-headers-dropped"] == .int32(1) || headers["x-headers-dropped"] == .int32(2))
        #expect(headers.encodedSize < 131_072 - 100)
        #expect(headers["x-job-id"] == .text("job-1"))
    }

    @Test func `a text is cut on a character's boundary`() {
        #expect(JobCopy.cut(String(repeating: "a", count: 2048)).utf8.count == 2048)
        #expect(JobCopy.cut(String(repeating: "a", count: 2049)).utf8.count == 2048)
        let cut = JobCopy.cut("a" + String(repeating: "漢", count: 1000))
        #expect(cut.utf8.count == 2047)
        #expect(cut.hasSuffix("漢"))
    }

    @Test func `violations in a header stay JSON`() throws {
        let violations = (0..<100)
            .map {
                Violation(JSONPointer.root.member("field\($0)"), .unknownField, "The API has no such field.")
            }
        let text = ViolationsText.text(violations)
        #expect(text.utf8.count <= 2048)
        guard case .array(let elements) = try JSONValue(parsing: text.utf8) else {
            Issue.record("no array")
            return
        }
        #expect(elements.count > 10)
    }
}

struct JobDecoderTests {
    private static func failure(
        type: ByteString? = nil,
        encoding: ByteString? = nil,
        body: String = #"{"image_urls":["https://a"],"prompt":"x"}"#
    ) -> JobFailure.Code? {
        var properties = MessageProperties()
        properties.contentType = type
        properties.contentEncoding = encoding
        let delivery = Delivery(
            tag: DeliveryTag(epoch: 1, number: 1),
            routingKey: "q",
            properties: properties,
            body: Array(body.utf8)
        )
        let decoder = JobDecoder(maxMessageBytes: 100, unknownFields: .reject, freshID: { "id" })
        do {
            _ = try decoder.decode(decoder.receive(delivery))
            return nil
        } catch {
            return error.code
        }
    }

    @Test(
        arguments: [
            nil, "", "application/json", "Application/JSON", "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\";version=1", "application/json ; x=y", "application/json; charset=utf8",
            "application/json; charset=\"UTF8\"", "application/vnd.seedream.edit+json",
            "Application/LD+JSON; charset=utf8",
        ] as [ByteString?]
    )
    func `a content type of JSON is taken`(_ type: ByteString?) {
        #expect(Self.failure(type: type) == nil)
    }

    @Test(
        arguments: [
            "text/plain", "application/xml", "application/json; charset=latin1", "json", "application/jsonx",
            "text/x+json", "application/+jsonx",
        ]
            as [ByteString]
    )
    func `another content type is not`(_ type: ByteString) {
        #expect(Self.failure(type: type) == .unsupportedContentType)
    }

    @Test func `neither is a compressed or a large body`() {
        #expect(Self.failure(encoding: "gzip") == .unsupportedContentType)
        for spelling: ByteString in ["UTF-8", "utf8", "UTF8", "\"utf-8\""] {
            #expect(Self.failure(encoding: spelling) == nil)
        }
        #expect(Self.failure(encoding: "identity") == nil)
        #expect(Self.failure(body: String(repeating: " ", count: 101)) == .messageTooLarge)
        #expect(Self.failure(body: "{") == .malformedJSON)
        #expect(Self.failure(body: "{}") == .invalidJob)
    }
}
