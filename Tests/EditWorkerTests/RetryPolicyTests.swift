import EditJob
import EditWorker
import RabbitMQ
import SeedreamAPI
import SharedValues
import Testing

struct RetryPolicyTests {
    private static let policy = RetryPolicy(
        maxAttempts: 5,
        delays: [.seconds(1), .seconds(5), .seconds(30)],
        noAnswer: .park,
        gatewayError: .retry
    )

    private static func end(
        _ outcome: SubmissionOutcome,
        attempts: Int = 0,
        mayBeDuplicate: Bool = false,
        policy: RetryPolicy = policy
    ) -> JobEnd {
        var history = SubmissionHistory(
            ReceivedJob(
                Delivery(
                    tag: DeliveryTag(epoch: 1, number: 1),
                    routingKey: "q",
                    properties: MessageProperties(),
                    body: []
                )
            ) { "id" }
        )
        history.attempts = attempts
        history.mayBeDuplicate = mayBeDuplicate
        return policy.end(of: outcome, after: history, message: "m")
    }

    private static func failed(
        _ code: JobFailure.Code,
        _ charged: JobFailure.Charge,
        _ status: Int?,
        attempts: Int,
        mayBeDuplicate: Bool = false
    ) -> JobEnd {
        .init(
            Verdict(JobFailure(code, "m", charged: charged, httpStatus: status)),
            attempts: attempts,
            mayBeDuplicate: mayBeDuplicate
        )
    }

    @Test func `an acceptance is a reply`() {
        #expect(Self.end(.accepted(taskID: "t", nil)) == .init(.accepted(taskID: "t"), attempts: 1))
    }

    @Test func `a rejection is a failure that cost nothing, unless an earlier attempt may have`() {
        let rejected = SubmissionOutcome.rejected(.init(status: 422))
        #expect(Self.end(rejected) == Self.failed(.apiRejected, .no, 422, attempts: 1))
        #expect(
            Self.end(rejected, attempts: 2, mayBeDuplicate: true)
                == Self.failed(.apiRejected, .maybe, 422, attempts: 3, mayBeDuplicate: true)
        )
        #expect(
            Self.end(.rejected(.init(isAboutContent: true, status: 451)))
                == Self.failed(.contentRejected, .no, 451, attempts: 1)
        )
    }

    @Test(arguments: [(0, 1), (1, 5), (2, 30), (3, 30)])
    func `a retry waits by its attempt, and the last delay repeats`(_ attempts: Int, _ seconds: Int) {
        #expect(
            Self.end(.retry(.init(status: 408)), attempts: attempts)
                == .init(.retry(after: .seconds(seconds)), attempts: attempts + 1, mayBeDuplicate: false)
        )
    }

    @Test func `attempts end`() {
        #expect(
            Self.end(.retry(.init(status: 408)), attempts: 4)
                == Self.failed(.retriesExhausted, .no, 408, attempts: 5)
        )
        let conflict = SubmissionOutcome.retry(.init(status: 409, mostAttempts: 3))
        #expect(Self.end(conflict, attempts: 1).attempts == 2)
        #expect(Self.end(conflict, attempts: 2) == Self.failed(.apiRejected, .no, 409, attempts: 3))
        var two = Self.policy
        two.maxAttempts = 2
        #expect(
            Self.end(conflict, attempts: 1, policy: two) == Self.failed(.retriesExhausted, .no, 409, attempts: 2)
        )
    }

    @Test func `the API's wait counts where it is longer`() {
        #expect(
            Self.end(.retry(.init(status: 408, retryAfter: .seconds(9))))
                == .init(.retry(after: .seconds(9)), attempts: 1, mayBeDuplicate: false)
        )
        #expect(
            Self.end(.retry(.init(status: 408, retryAfter: .milliseconds(1))))
                == .init(.retry(after: .seconds(1)), attempts: 1, mayBeDuplicate: false)
        )
    }

    @Test func `a wait that no queue can give closes the gate`() {
        let long = SubmissionOutcome.retry(.init(status: 425, retryAfter: .seconds(31)))
        #expect(
            Self.policy.withinQueues(long)
                == .serviceFault(.init(reason: .unavailable, status: 425, retryAfter: .seconds(31)))
        )
        let short = SubmissionOutcome.retry(.init(status: 425, retryAfter: .seconds(30)))
        #expect(Self.policy.withinQueues(short) == short)
    }

    @Test func `a gateway that asks for longer than any queue closes the gate, and its job is counted`() {
        let long = SubmissionOutcome.unknown(.init(kind: .gateway, status: 502, retryAfter: .seconds(3600)))
        #expect(
            Self.policy.forGate(long)
                == .serviceFault(.init(reason: .serverError, status: 502, retryAfter: .seconds(3600)))
        )
        #expect(Self.policy.withinQueues(long) == long)
        let short = SubmissionOutcome.unknown(.init(kind: .gateway, status: 502, retryAfter: .seconds(3)))
        #expect(Self.policy.forGate(short) == short)
    }

    @Test func `a service fault counts nothing`() {
        #expect(
            Self.end(.serviceFault(.init(reason: .auth)), attempts: 2) == .init(.givenBack(.notSubmitted), attempts: 2)
        )
    }

    @Test(arguments: DoubtPolicy.allCases, DoubtPolicy.allCases)
    func `an unknown outcome is what the policies say`(
        _ noAnswer: DoubtPolicy,
        _ gateway: DoubtPolicy
    ) {
        var policy = Self.policy
        policy.noAnswer = noAnswer
        policy.gatewayError = gateway
        let retried = JobEnd(.retry(after: .seconds(1)), attempts: 1, mayBeDuplicate: true)
        func wanted(_ choice: DoubtPolicy, _ status: Int?) -> JobEnd {
            choice == .retry ? retried : Self.failed(.outcomeUnknown, .maybe, status, attempts: 1)
        }
        #expect(Self.end(.unknown(.init(kind: .silent)), policy: policy) == wanted(noAnswer, nil))
        #expect(Self.end(.unknown(.init(kind: .gateway, status: 502)), policy: policy) == wanted(gateway, 502))
        // Never by itself: it said that it was accepted.
        #expect(
            Self.end(.unknown(.init(kind: .unreadable, status: 200)), policy: policy)
                == Self.failed(.outcomeUnknown, .maybe, 200, attempts: 1)
        )
        guard gateway == .retry else { return }
        #expect(
            Self.end(.unknown(.init(kind: .gateway, status: 500)), attempts: 4, policy: policy)
                == Self.failed(.retriesExhausted, .maybe, 500, attempts: 5)
        )
    }
}

struct FailureTextTests {
    private static let job = EditJob(
        imageURLs: ["https://cdn.example/signed?key=abcdef"],
        prompt: "Make the tall castle glow in purple"
    )

    private static func text(_ apiMessage: String) -> String {
        let body = #"{"message":"\#(apiMessage)"}"#
        let result = SubmissionResult.answered(APIAnswer(status: 422, body: .complete(Array(body.utf8))))
        return FailureText.text(.rejected(.init(status: 422)), result: result, token: "sk-Tok3n-98765432") { job }
    }

    @Test func `the API's own words are passed on`() {
        #expect(
            Self.text("image_urls[0] cannot be fetched")
                == "The API refused the job with status 422. It says: image_urls[0] cannot be fetched"
        )
    }

    @Test(arguments: [
        "your prompt 'make the TALL CASTLE glow' is bad", "bad url https://cdn.example/signed?key=abcdef",
        "tall castle", "t-a-l-l c_a_s_t_l_e", "Authorization: Bearer sk-Tok3n-98765432", "tok3n98765",
        "caf\\\\u0065 %74%61%6c%6c", "&#116;&#97;",
    ])
    func `but not where they repeat the job`(_ message: String) {
        #expect(Self.text(message) == "The API refused the job with status 422.")
    }

    @Test func `the normal form of a repeated letter does not matter`() {
        let composed = "\u{E9}l\u{E9}phant \u{E0} No\u{EB}l"
        let decomposed = "bad: e\u{301}le\u{301}phant a\u{300} Noe\u{308}l"
        let job = EditJob(imageURLs: ["https://a.example/x"], prompt: composed)
        let body = #"{"message":"\#(decomposed)"}"#
        let result = SubmissionResult.answered(APIAnswer(status: 422, body: .complete(Array(body.utf8))))
        #expect(
            FailureText.text(.rejected(.init(status: 422)), result: result, token: "t0ken-of-ours") { job }
                == "The API refused the job with status 422."
        )
    }

    @Test func `a prompt of symbols is a prompt too`() {
        let job = EditJob(imageURLs: ["https://a.example/x"], prompt: "\u{1F525}\u{27A1} \u{1F431}")
        let body = "{\"message\":\"bad prompt: \u{1F525}\u{27A1}\u{1F431}\"}"
        let result = SubmissionResult.answered(APIAnswer(status: 422, body: .complete(Array(body.utf8))))
        #expect(
            FailureText.text(.rejected(.init(status: 422)), result: result, token: "t0ken-of-ours") { job }
                == "The API refused the job with status 422."
        )
    }

    @Test func `nor where they repeat a field that this version does not know`() throws {
        let text = #"{"image_urls":["https://a"],"prompt":"x","style":{"of":["watercolour pastel"]},"secret_tag":1}"#
        let job = try EditJob(parsing: text.utf8, unknownFields: .forward)
        for said in ["style Watercolour Pastel is unknown", "no field named secret-tag"] {
            let body = #"{"message":"\#(said)"}"#
            let result = SubmissionResult.answered(APIAnswer(status: 422, body: .complete(Array(body.utf8))))
            #expect(
                FailureText.text(.rejected(.init(status: 422)), result: result, token: "t0ken-of-ours") { job }
                    == "The API refused the job with status 422."
            )
        }
    }

    @Test func `and not at any length`() {
        #expect(Self.text(String(repeating: "z", count: 5000)).count < 400)
    }
}
