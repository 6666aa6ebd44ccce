package import EditJob
package import RabbitMQ

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
    package func receive(
        _ delivery: Delivery,
        mark: ReceivedJob.MarkDelivery = ReceivedJob.unknown,
        death: BrokerDeath? = nil
    ) -> ReceivedJob {
        ReceivedJob(delivery, mark: mark, death: death, freshID: freshID)
    }

    /// The job in a delivery.
    package func decode(_ received: ReceivedJob) throws(JobFailure) -> EditJob {
        let delivery = received.delivery
        if let type = delivery.properties.contentType, type != Self.usualContentType,
            let fault = Self.contentTypeFault(type.text)
        {
            throw JobFailure(.unsupportedContentType, fault)
        }
        if let encoding = delivery.properties.contentEncoding?.text,
            !["", "utf-8", "utf8", "identity"].contains(Self.unquoted(encoding.lowercased()))
        {
            throw JobFailure(
                .unsupportedContentType,
                "The job's content_encoding must be absent, utf-8 or identity; send it uncompressed in UTF-8."
            )
        }
        guard delivery.isBodyKept, delivery.body.count <= maxMessageBytes else {
            throw tooLarge(delivery)
        }
        do {
            return try EditJob(parsing: delivery.body, unknownFields: unknownFields)
        } catch {
            throw JobFailure(error)
        }
    }

    private func tooLarge(_ delivery: Delivery) -> JobFailure {
        JobFailure(
            .messageTooLarge,
            "The job has \(delivery.bodySize) bytes; at most \(maxMessageBytes) are taken (worker.maxMessageBytes)."
        )
    }

    /// RFC 9110 §8.3.1: type and parameters know no case; a value may be quoted.
    private static func contentTypeFault(_ text: String) -> String? {
        guard !text.isEmpty else { return nil }
        let parts = text.lowercased().split(separator: ";").map { unquoted($0) }
        // RFC 6839 §3.1: JSON with a meaning of its own is JSON.
        let isJSON = parts.first.map {
            $0 == "application/json" || $0.hasPrefix("application/") && $0.hasSuffix("+json")
        }
        guard isJSON == true else {
            return "The job's content_type must be absent or application/json."
        }
        for parameter in parts.dropFirst() where parameter.hasPrefix("charset=") {
            guard ["charset=utf-8", "charset=utf8"].contains(parameter) else {
                return "The job's charset must be UTF-8."
            }
        }
        return nil
    }

    private static func unquoted(_ text: some StringProtocol) -> String {
        String(text.filter { !" \t\"".contains($0) })
    }
}
