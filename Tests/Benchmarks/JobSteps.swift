import AMQP
import EditJob
import EditWorker
import JSON
import Journal
import SeedreamAPI
import SharedValues

/// The steps of a job that are pure computation, each on a job of the usual size.
enum JobSteps {
    /// A step under its name.
    struct Step {
        /// What the step is called in reports.
        let name: String
        /// Takes the step once.
        let run: () -> Void
    }

    /// All steps, in the order of a job's way.
    static var all: [Step] {
        let delivery = delivery
        let decoder = JobDecoder(maxMessageBytes: 1 << 20, unknownFields: .reject) { "id" }
        let received = ReceivedJob(delivery) { "id" }
        guard let job = try? decoder.decode(received) else { return [] }
        let body = job.requestBody()
        let policy = RetryPolicy(maxAttempts: 5, delays: [.seconds(30)], noAnswer: .park, gatewayError: .park)
        let outcome = OutcomeTable.outcome(of: sighting)
        return [
            Step(name: "receive") { keep(ReceivedJob(delivery) { "id" }) },
            Step(name: "decode") { keep(try? decoder.decode(received)) },
            Step(name: "encode") { keep(job.requestBody()) },
            Step(name: "digest") { keep(BodyDigest(body)) },
            Step(name: "classify") { keep(OutcomeTable.outcome(of: sighting)) },
            Step(name: "settle") {
                let end = policy.end(of: outcome, after: SubmissionHistory(received), message: "")
                guard case .submitted(let taskID) = end.kind else { return }
                keep(
                    Reply(jobID: received.id, status: .submitted(taskID: taskID), attempts: 1, at: .now).json.encoded()
                )
            },
            Step(name: "dead letter") {
                keep(
                    JobCopy(frameMax: 131_072).message(of: received, to: "jobs.dlq", adding: ["x-attempts": .int32(1)])
                )
            },
            Step(name: "acknowledge 200") {
                var ledger = AcknowledgementLedger()
                for number in 1...200 as ClosedRange<UInt64> { _ = ledger.opened(number) }
                for number in 1...200 as ClosedRange<UInt64> { _ = ledger.settle(number) }
                keep(ledger.flush())
            },
        ]
    }

    /// 1.5 KB with five URLs and a prompt in several scripts.
    private static var delivery: Delivery {
        let urls = (0..<5).map { #""https://images.example.com/2026/11/22/0123456789abcdef/\#($0).png?width=1024""# }
        let prompt = String(repeating: "Make the sky \\\"red\\\" and add a caf\u{E9} in \u{6771}\u{4EAC}. ", count: 20)
        let text = """
            {"image_urls":[\(urls.joined(separator: ","))],"prompt":"\(prompt)","image_size":"square_hd",\
            "image_resolution":"2K","max_images":2,"seed":7}
            """
        var properties = MessageProperties()
        properties.contentType = "application/json"
        properties.messageID = "5c1d4f0e-0b1c-4c2a-9f6e-0a1b2c3d4e5f"
        properties.correlationID = properties.messageID
        properties.replyTo = "results"
        properties.timestamp = 1_700_000_000
        return Delivery(
            tag: DeliveryTag(epoch: 1, number: 1),
            routingKey: "jobs",
            properties: properties,
            body: Array(text.utf8)
        )
    }

    private static let sighting = SubmissionSighting.answered(
        APIAnswer(status: 200, body: .complete(Array(#"{"task_id":"5c1d4f0e-0b1c-4c2a-9f6e-0a1b2c3d4e5f"}"#.utf8)))
    )

    /// Keeps the optimizer from leaving out what nobody uses.
    @inline(never)
    @_optimize(none)
    private static func keep<Value>(_ value: Value) {}
}
