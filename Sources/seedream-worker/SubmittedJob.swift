import EditWorker
import JSON
import OperatorTools
import RabbitMQ

/// A job of a file as `submit` publishes it: its text, and what becomes its message's properties.
struct SubmittedJob {
    /// The job must not be published as it is.
    struct Refusal: Error, CustomStringConvertible {
        let description: String
    }

    /// The job's own id, nil if it has none.
    let id: String?
    /// Its text without the members that are not the job's own.
    let text: [UInt8]
    /// What came with it out of a dead letter queue.
    private let exported: ExportedJob?

    /// Reads a job; `idField` names the member that is its id.
    ///
    /// An exported job that may have been paid for is refused unless `acceptsDoubleCharge`.
    init(_ job: JobFile.Job, idField: String?, acceptsDoubleCharge: Bool) throws(Refusal) {
        exported = ExportedJob(job.text)
        if let exported, exported.mayHaveBeenCharged, !acceptsDoubleCharge {
            throw Refusal(
                description: "The job may have been paid for. To pay perhaps twice, add --accept-double-charge."
            )
        }
        let text = exported?.text ?? job.text
        guard let idField, case .object(let members)? = try? JSONValue(parsing: text) else {
            id = exported?.id
            self.text = text
            return
        }
        switch members.first(where: { $0.name == idField })?.value {
        case .string(let text)? where (1...255).contains(text.utf8.count): id = text
        case .integer(let number)?: id = "\(number)"
        default:
            throw Refusal(
                description: "\(idField) must be a string of 1 to 255 bytes or an integer: it becomes the job's id"
            )
        }
        self.text = JSONValue.object(members.filter { $0.name != idField }).encoded()
    }

    /// Puts what the job had as a message into its new one's properties, where nothing else is said there.
    func complete(_ properties: inout MessageProperties) {
        guard let exported else { return }
        if properties.replyTo == nil {
            properties.replyTo = exported.replyTo.map { ByteString($0) }
            properties.correlationID = exported.correlationID.map { ByteString($0) }
        }
        guard exported.mayHaveBeenCharged else { return }
        // One more replay, with consent: the worker's journal may know of the first submission.
        let (count, isTooLarge) = exported.replayCount.addingReportingOverflow(1)
        properties.headers = [
            JobHeader.acceptDoubleCharge: .boolean(true),
            JobHeader.replayCount: .int32(isTooLarge ? .max : count),
        ]
    }
}
