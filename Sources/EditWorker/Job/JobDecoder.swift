package import AMQP
package import EditJob

/// Makes a checked job of a delivery, or says why it is none.
package struct JobDecoder: Sendable {
    /// What nearly every job has, and needs no reading.
    private static let usualContentType: ByteString = "application/json"

    private let maxMessageBytes: Int
    private let unknownFields: UnknownFieldPolicy
    private let freshID: @Sendable () -> String

    /// A decoder that refuses bodies of more than `maxMessageBytes`; `freshID` makes up ids for jobs without one.
    package init(
        maxMessageBytes: Int,
        unknownFields: UnknownFieldPolicy,
        freshID: @escaping @Sendable () -> String
    ) {
        self.maxMessageBytes = maxMessageBytes
        self.unknownFields = unknownFields
        self.freshID = freshID
    }

    /// Reads a delivery, all but its body.
    package func receive(_ delivery: Delivery) -> ReceivedJob { ReceivedJob(delivery, freshID: freshID) }

    /// The job in a delivery.
    package func decode(_ received: ReceivedJob) throws(JobFailure) -> EditJob {
        let delivery = received.delivery
        if let type = delivery.properties.contentType, type != Self.usualContentType,
            let fault = Self.contentTypeFault(type.text)
        {
            throw JobFailure(.unsupportedContentType, fault)
        }
        if let encoding = delivery.properties.contentEncoding?.text,
            !["", "utf-8", "identity"].contains(encoding.lowercased())
        {
            throw JobFailure(
                .unsupportedContentType,
                "The job's content_encoding must be absent, utf-8 or identity; send it uncompressed in UTF-8."
            )
        }
        guard delivery.isBodyKept, delivery.body.count <= maxMessageBytes else {
            throw JobFailure(
                .messageTooLarge,
                "The job has \(delivery.bodySize) bytes; at most \(maxMessageBytes) are taken (worker.maxMessageBytes)."
            )
        }
        do {
            return try EditJob(parsing: delivery.body, unknownFields: unknownFields)
        } catch {
            throw JobFailure(error)
        }
    }

    /// RFC 9110 §8.3.1: type and parameters know no case; a value may be quoted.
    private static func contentTypeFault(_ text: String) -> String? {
        guard !text.isEmpty else { return nil }
        let parts = text.lowercased().split(separator: ";")
            .map { part in
                part.filter { $0 != " " && $0 != "\t" && $0 != "\"" }
            }
        guard parts.first == "application/json" else {
            return "The job's content_type must be absent or application/json."
        }
        for parameter in parts.dropFirst() where parameter.hasPrefix("charset=") {
            guard parameter == "charset=utf-8" else { return "The job's charset must be UTF-8." }
        }
        return nil
    }
}
