import EditJob
import JSON
import SharedValues
import Testing

struct ReplyTests {
    private static let at = Timestamp(milliseconds: 1_795_637_700_123)

    private static func text(_ reply: Reply) -> String {
        String(decoding: reply.json.encoded(), as: UTF8.self)
    }

    @Test func `a submitted job's reply is the contract's`() {
        let reply = Reply(jobID: "j", status: .submitted(taskID: "t"), attempts: 1, at: Self.at)
        #expect(
            Self.text(reply)
                == #"{"job_id":"j","status":"submitted","task_id":"t","attempts":1,"submitted_at":"2026-11-25T20:15:00.123Z"}"#
        )
    }

    @Test func `a failed job's reply is the contract's`() {
        let failure = JobFailure(
            .invalidJob,
            "m",
            httpStatus: 422,
            violations: [Violation(JSONPointer.root.member("image_urls").element(0), .url, "v")]
        )
        let reply = Reply(jobID: "j", status: .failed(failure), attempts: 0, at: Self.at, mayBeDuplicate: true)
        #expect(
            Self.text(reply)
                == #"{"job_id":"j","status":"failed","attempts":0,"failed_at":"2026-11-25T20:15:00.123Z","charged":"no","#
                + #""error":{"code":"invalid_job","message":"m","http_status":422,"violations":[{"pointer":"/image_urls/0","code":"url","message":"v"}]},"may_be_duplicate":true}"#
        )
    }

    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_637_700_123, "2026-11-25T20:15:00.123Z"), (-1, "1969-12-31T23:59:59.999Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"), (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] as [(Int64, String)]
    )
    func `a moment is written and read by RFC 3339`(_ milliseconds: Int64, _ text: String) {
        #expect(Timestamp(milliseconds: milliseconds).description == text)
        #expect(Timestamp(rfc3339: text)?.milliseconds == milliseconds)
    }

    @Test(arguments: [
        "2026-11-25T20:15:00Z", "2026-11-25t21:15:00+01:00", "2026-11-25 20:15:00.0004z",
        "2026-11-25T15:15:00.000-05:00",
    ])
    func `every form of RFC 3339 is read`(_ text: String) {
        #expect(Timestamp(rfc3339: text)?.milliseconds == 1_795_637_700_000)
    }

    @Test(arguments: [
        "", "2026-11-25", "2026-11-25T20:15:00", "2026-13-25T20:15:00.123Z", "2026-11-25T20:15:00.123+",
        "2026-11-25T24:00:00Z", "\u{662}026-11-25T20:15:00Z",
    ])
    func `another form is no moment`(_ text: String) {
        #expect(Timestamp(rfc3339: text) == nil)
    }
}
