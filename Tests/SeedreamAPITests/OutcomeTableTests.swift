import EditJob
import SeedreamAPI
import SharedValues
import Testing

/// Every row of the table of outcomes.
struct OutcomeTableTests {
    private static let uuid = "5c1d4f0e-0b1c-4c2a-9f6e-0a1b2c3d4e5f"

    private static func answered(_ status: Int, _ body: String = "", retryAfter: String? = nil) -> SubmissionResult {
        .answered(APIAnswer(status: status, retryAfter: retryAfter, body: .complete(Array(body.utf8))))
    }

    private static func gate(_ reason: GateReason, _ status: Int? = nil, after: Int? = nil, least: Int? = nil)
        -> SubmissionOutcome
    {
        .serviceFault(
            .init(
                reason: reason,
                status: status,
                retryAfter: after.map { .seconds($0) },
                leastDelay: least.map { .seconds($0) }
            )
        )
    }

    private static func unknown(_ kind: SubmissionOutcome.Doubt.Kind, _ status: Int? = nil, after: Int? = nil)
        -> SubmissionOutcome
    {
        .unknown(.init(kind: kind, status: status, retryAfter: after.map { .seconds($0) }))
    }

    private static func unavailable(_ status: Int, _ after: Int? = nil) -> SubmissionOutcome {
        let wait = after.map { Duration.seconds($0) }
        return .unknown(.init(kind: .gateway, status: status, retryAfter: wait, isOfUnavailableService: true))
    }

    private static func rejected(_ status: Int, content: Bool = false, unfamiliar: Bool = false) -> SubmissionOutcome {
        .rejected(.init(isAboutContent: content, status: status, isUnfamiliar: unfamiliar))
    }

    static let acceptances: [(SubmissionResult, SubmissionOutcome)] = [
        (answered(200, #"{"task_id":"\#(uuid)"}"#), .accepted(taskID: uuid, nil)),
        (answered(201, #"{"task_id":"\#(uuid)","x":[]}"#), .accepted(taskID: uuid, nil)),
        (answered(200, #"{"task_id":"abc"}"#), .accepted(taskID: "abc", .taskIDIsNoUUID)),
        (answered(200, #"{"code":200,"data":{"task_id":"\#(uuid)"}}"#), .accepted(taskID: uuid, .shape)),
        (answered(200, #"{"code":"200","data":{"taskId":"\#(uuid)"}}"#), .accepted(taskID: uuid, .shape)),
        (
            answered(200, #"{"task_id":"\#(String(repeating: "a", count: 256))"}"#),
            .accepted(taskID: String(repeating: "a", count: 256), .taskIDIsNoUUID)
        ),
        // A paid task id is never thrown away, in whatever shape it comes.
        (answered(200, #"{"code":0,"data":{"task_id":"\#(uuid)"}}"#), .accepted(taskID: uuid, .shape)),
        (answered(202, #"{"code":200,"data":{"taskId":"\#(uuid)"}}"#), .accepted(taskID: uuid, .shape)),
        (answered(200, #"{"taskId":"\#(uuid)"}"#), .accepted(taskID: uuid, .shape)),
        (answered(200, #"{"task_id":7}"#), .accepted(taskID: "7", .shape)),
        (answered(200, #"{"code":201,"taskId":"a"}"#), .accepted(taskID: "a", .shape)),
        (answered(200, #"{"task_id":"a","data":{"taskId":"a"}}"#), .accepted(taskID: "a", .taskIDIsNoUUID)),
        (answered(200, #"{"task_id":"","data":{"taskId":"a"}}"#), .accepted(taskID: "a", .shape)),
        (answered(200, #"{"code":null,"error_code":0,"task_id":"\#(uuid)"}"#), .accepted(taskID: uuid, nil)),
    ]

    static let unreadable: [SubmissionResult] = [
        answered(200), answered(200, "{"), answered(200, "<html></html>"), answered(200, "{}"), answered(200, "[]"),
        answered(200, #"{"task_id":""}"#), answered(200, #"{"task_id":7.5}"#), answered(200, #"{"task_id":null}"#),
        // An id beside an error, and two of them.
        answered(200, #"{"code":500,"task_id":"\#(uuid)"}"#), answered(200, #"{"error_code":"401","taskId":"a"}"#),
        answered(200, #"{"task_id":"a","taskId":"b"}"#), answered(200, #"{"task_id":"a","data":{"task_id":"b"}}"#),
        answered(200, #"{"task_id":"\#(String(repeating: "a", count: 257))"}"#),
        answered(200, #"{"code":200}"#), answered(200, #"{"code":200,"data":{}}"#), answered(200, #"{"code":0}"#),
        answered(200, #"{"code":10001,"msg":"?"}"#), answered(200, #"{"code":true}"#), answered(200, #"{"code":"x"}"#),
        answered(200, #"{"code":201}"#), answered(200, #"{"code":1e300}"#),
        .answered(APIAnswer(status: 200, body: .tooLong)), .answered(APIAnswer(status: 200, body: .cut)),
    ]

    static let envelopes: [(SubmissionResult, SubmissionOutcome)] = [
        (answered(200, #"{"code":401,"msg":"no"}"#), gate(.auth, 401)),
        (answered(200, #"{"code":"402"}"#), gate(.credits, 402)),
        (answered(200, #"{"error_code":433}"#), gate(.quota, 433)),
        (answered(200, #"{"code":408}"#), unknown(.silent, 408)),
        (answered(200, #"{"code":422,"msg":"x"}"#), rejected(422)),
        (answered(200, #"{"code":422,"msg":"NSFW"}"#), rejected(422, content: true)),
        (answered(200, #"{"code":429}"#, retryAfter: "3"), gate(.rateLimited, 429, after: 3)),
        (answered(200, #"{"code":500}"#), unknown(.gateway, 500)),
        (answered(200, #"{"code":501}"#), rejected(501)),
        (answered(200, #"{"code":455}"#), gate(.maintenance, 455)),
        (answered(200, #"{"code":505}"#), gate(.featureDisabled, 505)),
    ]

    static let statuses: [(SubmissionResult, SubmissionOutcome)] = [
        (answered(301), gate(.redirect, 301)), (answered(302), gate(.redirect, 302)),
        (answered(303), gate(.redirect, 303)), (answered(307), gate(.redirect, 307)),
        (answered(308), gate(.redirect, 308)), (answered(304), gate(.redirect, 304)),
        (answered(400), rejected(400, unfamiliar: true)), (answered(413), rejected(413, unfamiliar: true)),
        (answered(422), rejected(422, unfamiliar: true)),
        (answered(400, "<html>The plain HTTP request was sent to HTTPS port"), rejected(400, unfamiliar: true)),
        (answered(400, #"{"code":400}"#), rejected(400)), (answered(413, #"{"detail":"x"}"#), rejected(413)),
        (answered(422, #"{"errors":[]}"#), rejected(422)), (answered(422, #"{"title":"x"}"#), rejected(422)),
        (answered(422, #"{"error":"x"}"#), rejected(422)),
        (answered(422, #"{"ok":false}"#), rejected(422, unfamiliar: true)),
        (answered(400, #"{"message":"Content Policy"}"#), rejected(400, content: true)),
        (answered(422, #"{"error_msg":"sensitive words"}"#), rejected(422, content: true)),
        (answered(422, "moderation says no"), rejected(422, content: true, unfamiliar: true)),
        (answered(401), gate(.auth, 401)), (answered(402), gate(.credits, 402)), (answered(433), gate(.quota, 433)),
        (answered(403, "error code: 1010"), gate(.forbidden, 403)),
        (answered(404), gate(.endpoint, 404)), (answered(405), gate(.endpoint, 405)),
        (answered(406), gate(.endpoint, 406)), (answered(410), gate(.endpoint, 410)),
        (answered(411), gate(.endpoint, 411)), (answered(414), gate(.endpoint, 414)),
        (answered(415), gate(.endpoint, 415)), (answered(426), gate(.endpoint, 426)),
        (answered(431), gate(.endpoint, 431)),
        (answered(408), .retry(.init(status: 408))), (answered(425), .retry(.init(status: 425))),
        (answered(408, retryAfter: "7"), .retry(.init(status: 408, retryAfter: .seconds(7)))),
        (answered(409), .retry(.init(status: 409, mostAttempts: 3))),
        (answered(429, retryAfter: "5"), gate(.rateLimited, 429, after: 5)),
        (answered(429), gate(.rateLimited, 429, least: 10)),
        (answered(429, retryAfter: "soon"), gate(.rateLimited, 429, least: 10)),
        (answered(451), rejected(451, content: true)), (answered(455), gate(.maintenance, 455)),
        (answered(418), rejected(418, unfamiliar: true)), (answered(407), rejected(407, unfamiliar: true)),
        (answered(499), unknown(.silent, 499)),
        (answered(500), unknown(.gateway, 500)), (answered(502), unknown(.gateway, 502)),
        (answered(504), unknown(.gateway, 504)), (answered(520), unknown(.gateway, 520)),
        (answered(524), unknown(.gateway, 524)), (answered(599), unknown(.gateway, 599)),
        (answered(502, retryAfter: "9"), unknown(.gateway, 502, after: 9)),
        (answered(501, #"{"message":"no such model"}"#), rejected(501)), (answered(501), gate(.endpoint, 501)),
        (answered(501, "<html>"), gate(.endpoint, 501)),
        // Who wrote a 503 decides whether it promises anything.
        (answered(503, #"{"message":"busy"}"#), gate(.unavailable, 503)),
        (answered(503, #"{"code":503}"#, retryAfter: "60"), gate(.unavailable, 503, after: 60)),
        (answered(503), unavailable(503)),
        (answered(503, "Backend fetch failed", retryAfter: "60"), unavailable(503, 60)),
        (answered(503, "upstream connect error or disconnect/reset before headers"), unavailable(503)),
        (.answered(APIAnswer(status: 503, body: .cut)), unavailable(503)),
        (answered(505), gate(.featureDisabled, 505)),
        (answered(521), gate(.originDown, 521)), (answered(522), gate(.originDown, 522)),
        (answered(523), gate(.originDown, 523)), (answered(525), gate(.originDown, 525)),
        (answered(526), gate(.originDown, 526)), (answered(530), gate(.originDown, 530)),
        (answered(600), unknown(.silent, 600)),
        (.answered(APIAnswer(status: 401, body: .cut)), gate(.auth, 401)),
        (.answered(APIAnswer(status: 500, body: .tooLong)), unknown(.gateway, 500)),
    ]

    static let silences: [(SubmissionResult, SubmissionOutcome)] = [
        (.failed(.nameNotResolved), gate(.dns)), (.failed(.notConnected), gate(.connect)),
        (.failed(.notWritten), gate(.connect)), (.failed(.tls), gate(.tls)), (.failed(.timedOut), unknown(.silent)),
        (.failed(.connectionEnded), unknown(.silent)), (.failed(.cancelled), unknown(.silent)),
    ]

    @Test(arguments: acceptances + envelopes + statuses + silences)
    func `a result has its outcome`(_ result: SubmissionResult, _ outcome: SubmissionOutcome) {
        #expect(OutcomeTable.outcome(of: result) == outcome)
    }

    @Test(arguments: unreadable)
    func `a yes without a task id is never taken for a no`(_ result: SubmissionResult) {
        #expect(OutcomeTable.outcome(of: result) == Self.unknown(.unreadable, 200))
    }

    @Test(arguments: 100...999)
    func `every status has an outcome that is no acceptance`(_ status: Int) {
        if case .accepted = OutcomeTable.outcome(of: Self.answered(status)) { Issue.record("\(status)") }
    }

    @Test(
        arguments: [
            (#"{"message":"a"}"#, "a"), (#"{"msg":"a"}"#, "a"), (#"{"error_msg":"a"}"#, "a"), (#"{"error":"a"}"#, "a"),
            (#"{"error":{"message":"a"}}"#, "a"), (#"{"detail":"a"}"#, "a"),
            (#"{"detail":[{"loc":["body","image_urls",0],"msg":"bad"},{"msg":"b"}]}"#, "body.image_urls.0: bad; b"),
            (#"{"errors":["a","b"]}"#, "a; b"), (#"{"errors":[{"message":"a"}]}"#, "a"),
            (#"{"errors":{"prompt":["is long","is rude"]}}"#, "prompt: is long; is rude"),
            (#"{"type":"about:blank","title":"Not good","status":422}"#, "Not good"),
            (#"{"title":"Not good","detail":"the prompt"}"#, "the prompt"), (#"{"code":1}"#, nil), ("<html>", nil),
        ] as [(String, String?)]
    )
    func `the API's words are found wherever APIs put them`(_ body: String, _ words: String?) {
        #expect(APIAnswer(status: 422, body: .complete(Array(body.utf8))).message == words)
    }

    // 1994-11-06T08:49:37Z
    private static let now = Timestamp(milliseconds: 784_111_777_000)

    @Test(
        arguments: [
            ("7", nil, 7), (" 7 ", nil, 7), ("0", nil, 0), ("-1", nil, nil), ("1.5", nil, nil), ("soon", nil, nil),
            ("", nil, nil), ("90000", nil, 86_400), ("99999999999999999999", nil, 86_400),
            ("Sun, 06 Nov 1994 08:50:07 GMT", nil, 30),
            ("Sunday, 06-Nov-94 08:50:07 GMT", nil, 30), ("Sun Nov  6 08:50:07 1994", nil, 30),
            ("Sun, 06 Nov 1994 08:49:07 GMT", nil, nil), ("Sun, 06 Nov 1994 08:49:37 GMT", nil, nil),
            ("Sun, 06 Nov 1994 08:50:07 GMT", "Sun, 06 Nov 1994 08:50:00 GMT", 7),
            ("Sun, 06 Nov 1994 08:50:07 GMT", "rubbish", 30), ("Sun, 06 Nov 1994 08:50:07", nil, nil),
            ("Sun, 32 Nov 1994 08:50:07 GMT", nil, nil), ("Sun, 06 Foo 1994 08:50:07 GMT", nil, nil),
            ("Sun, 06 Nov 1994 25:50:07 GMT", nil, nil), ("Mon, 07 Nov 1994 08:49:37 GMT", nil, 86_400),
        ] as [(String, String?, Int?)]
    )
    func `Retry-After is read in all its forms`(_ field: String, _ date: String?, _ seconds: Int?) {
        #expect(RetryAfter.wait(field, date: date, now: Self.now) == seconds.map { .seconds($0) })
    }

    @Test(arguments: [200, 204, 299, 300, 401]) func `a plain answer is read like any other`(_ status: Int) {
        func outcome(_ body: [UInt8]) -> SubmissionOutcome {
            OutcomeTable.outcome(of: .answered(APIAnswer(status: status, body: .complete(body))))
        }
        for plain in [#"{"task_id":"\#(Self.uuid)"}"#, #"{"task_id": "\#(Self.uuid)"}"#] {
            var variants: [[UInt8]] = [Array(plain.utf8)]
            for offset in 0..<plain.utf8.count {
                for byte: UInt8 in [0, 0x20, 0x22, 0x2D, 0x5C, 0x66, 0x67, 0x7D, 0xC3] {
                    var changed = variants[0]
                    changed[offset] = byte
                    variants += [changed, Array(variants[0].prefix(offset)), variants[0] + [byte]]
                }
            }
            // White space at the front takes an answer to Jansson.
            for body in variants {
                #expect(outcome(body) == outcome([0x20] + body), "\(String(decoding: body, as: UTF8.self))")
            }
        }
    }
}
