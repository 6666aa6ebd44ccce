import EditJob
package import Journal
package import Logging
import NIOConcurrencyHelpers
import RabbitMQ
import SeedreamAPI
import SharedValues
import Telemetry

/// Counts and logs what becomes of jobs.
///
/// From any thread.
package final class JobObserver: Sendable {
    private let metrics: WorkerMetrics
    private let logger: Logger
    private let anonymousJobs = NIOLockedValueBox(0)

    /// An observer that counts in `metrics`.
    package init(metrics: WorkerMetrics, logger: Logger) {
        self.metrics = metrics
        self.logger = logger
    }

    func received(_ delivery: Delivery) {
        metrics.received(redelivered: delivery.redelivered)
    }

    /// A job's body is too large to be kept.
    func leftToBroker(_ delivery: Delivery) {
        logger.log(
            .info,
            "a job is larger than worker.maxMessageBytes; the broker puts it among the undelivered",
            [.jobID: delivery.properties.messageID?.text ?? "-", .count: "\(delivery.bodySize)"]
        )
    }

    /// A job was taken from its queue.
    func taken(_ job: ReceivedJob) {
        guard logger.logLevel <= .debug else { return }
        logger.log(.debug, "a job was taken", [.jobID: job.id, .attempts: "\(job.attempts)"])
    }

    /// A delivery is no longer in the worker.
    func left() {
        metrics.left()
    }

    /// A job came without an id, which the journal cannot recognise when it comes again.
    ///
    /// The log hears of the first, the tenth, the hundredth and so on.
    func receivedAnonymous() {
        metrics.anonymousJob()
        let count = anonymousJobs.withLockedValue { total in
            total += 1
            return total
        }
        guard Self.isPowerOfTen(count) else { return }
        logger.log(
            .warning,
            "jobs come without a message_id and cannot be recognised when they come again",
            [.count: "\(count)", .remedy: "let the producer set message_id"]
        )
    }

    private static func isPowerOfTen(_ number: Int) -> Bool {
        var rest = number
        while rest % 10 == 0 { rest /= 10 }
        return rest == 1
    }

    /// A request ended; `status` is nil if no answer came.
    func requested(_ operation: WorkerMetrics.Operation, status: Int?, after elapsed: Duration) {
        metrics.requested(operation, status: status, after: elapsed)
    }

    /// What the API said of a job is not in the table.
    func notUnderstood(_ answer: String, _ outcome: SubmissionOutcome, of job: ReceivedJob) {
        let isAccepted = if case .accepted = outcome { true } else { false }
        logger.log(
            isAccepted ? .debug : .warning,
            "the API's answer is not one that it documents",
            [.jobID: job.id, .apiAnswer: answer]
        )
    }

    /// There is something odd about an acceptance.
    func warn(_ warning: SubmissionOutcome.AcceptanceWarning, of job: ReceivedJob) {
        logger.log(.warning, "the API accepted a job in an odd way", [.jobID: job.id, .reason: warning.rawValue])
    }

    /// The journal cannot be used.
    func failed(_ fault: JournalFault) {
        logger.log(.error, "the journal cannot be used", [.error: fault.description])
    }

    /// The journal did not take the verdict on a job, and gets it later.
    package func verdictNotWritten(_ id: String, _ fault: JournalFault) {
        logger.log(.error, "the journal did not take a verdict", [.jobID: id, .error: fault.description])
    }

    /// What replaces a delivery is confirmed.
    func settled(_ end: JobEnd, of job: ReceivedJob, after elapsed: Duration) {
        metrics.settled(end, after: elapsed, age: job.age)
        guard logger.logLevel <= .info else { return }
        var metadata: [LogKey: String] = [
            .jobID: job.id, .result: end.label.rawValue, .attempts: "\(end.attempts)",
            .durationMilliseconds: "\(elapsed.wholeMilliseconds)",
        ]
        metadata[.traceID] = TraceContext(job.delivery.properties.headers)?.traceID
        switch end.verdict {
        case .accepted(let taskID, _): metadata[.taskID] = taskID
        case .refused(let failure), .unknown(let failure):
            metadata[.code] = failure.code.rawValue
            metadata[.charged] = failure.charged.rawValue
            metadata[.httpStatus] = failure.httpStatus.map { "\($0)" }
        case .retry(let wait): metadata[.wait] = DurationText.text(wait)
        case .givenBack: break
        }
        logger.log(.info, "a job was settled", metadata)
    }

    /// A task was followed to its end, `age` after its submission; nil if its images are there.
    func followed(_ task: FollowedTask, _ failure: JobFailure?, after age: Duration) {
        metrics.followed(failure, after: age)
        logger.log(
            failure == nil ? .debug : .info,
            "a task was followed to its end",
            [.jobID: task.job.id, .taskID: task.taskID, .code: failure?.code.rawValue ?? "completed"]
        )
    }

    /// A look at a task saw what the table does not understand.
    func lookNotUnderstood(_ task: FollowedTask, _ seen: String, _ evidence: String?) {
        var metadata: [LogKey: String] = [.jobID: task.job.id, .taskID: task.taskID, .status: seen]
        metadata[.apiAnswer] = evidence
        logger.log(.warning, "looks at tasks are not answered as documented; they are repeated", metadata)
    }

    /// Looks at tasks are understood again.
    func looksUnderstood() {
        logger.log(.info, "looks at tasks are answered again")
    }

    /// The API knows none of the tasks that it has accepted.
    func knowsNoTask() {
        logger.log(
            .warning,
            "the API knows none of the tasks that were looked at",
            [.remedy: "check api.baseUrl: something in front of the API may answer instead, or its path has changed"]
        )
    }

    /// A job has the header `x-follow` with a value that says neither yes nor no.
    func receivedOddFollow(_ job: ReceivedJob) {
        logger.log(
            .warning,
            "the header x-follow has a value that is neither true nor false; the job is not followed for it",
            [.jobID: job.id, .remedy: "let the producer set x-follow to true"]
        )
    }

    /// A delivery's connection is gone before its job has an end.
    func lost(_ job: ReceivedJob) {
        logger.log(.debug, "the connection of a job is gone; the broker delivers it again", [.jobID: job.id])
    }

    /// The worker ends before a job does.
    func interrupted(_ job: ReceivedJob) {
        logger.log(.warning, "the worker ends before a job; the broker delivers it again", [.jobID: job.id])
    }

    /// A job cannot be settled, and goes back after a wait.
    func unsettled(_ job: ReceivedJob, _ error: any Error, wait: Duration) {
        logger.log(
            .error,
            "a job cannot be settled and goes back to its queue",
            [.jobID: job.id, .error: "\(error)", .wait: DurationText.text(wait)]
        )
    }
}
