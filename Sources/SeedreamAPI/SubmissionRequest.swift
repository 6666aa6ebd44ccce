import SharedValues

/// One submission as the API is to receive it.
package struct SubmissionRequest: Sendable {
    /// The job, for `Idempotency-Key`.
    package var jobID: String
    /// The API's JSON, encoded.
    package var body: [UInt8]
    package var token: String
    /// W3C trace context, from the job.
    package var traceparent: String?
    /// W3C trace context, from the job.
    package var tracestate: String?

    package init(
        jobID: String,
        body: [UInt8],
        token: String,
        traceparent: String? = nil,
        tracestate: String? = nil
    ) {
        self.jobID = jobID
        self.body = body
        self.token = token
        self.traceparent = traceparent
        self.tracestate = tracestate
    }

    /// The job id as a field value: percent-encoded where it is not visible ASCII (RFC 9110 §5.5).
    var idempotencyKey: String {
        guard jobID.utf8.contains(where: { !(0x21...0x7E).contains($0) }) else { return jobID }
        return PercentEncoding.encode(jobID.utf8)
    }
}
