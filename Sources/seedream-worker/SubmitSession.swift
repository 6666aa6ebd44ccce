import AMQP
import EditJob
import EditWorker
import Glibc
import JSON
import WorkerSettings

/// One `submit`: a connection, the publishes in flight, and the replies to come.
final class SubmitSession {
    /// Enough that the broker's disk, and not the round trip, is the limit.
    private static let mostInFlight = 512

    private let connection: AMQPConnection
    private let queue: String
    private let format: OutputFormat
    private let replyQueue: ByteString?
    private let replies: AMQPConnection.Subscription?
    private let prefix = String(UInt64.random(in: .min ... .max), radix: 36)
    private var inFlight: [(name: String, id: ByteString, task: Task<PublishResult, any Error>)] = []
    private var waiting: Set<ByteString> = []
    private var count = 0
    private var published = 0
    private var unpublished = 0
    private var replied = 0
    private var failuresByCode: [String: Int] = [:]
    private var missing = 0

    init(_ settings: Settings, replyTo: String?, waits: Bool, format: OutputFormat) async throws {
        self.format = format
        queue = settings.queueName
        var options = AMQPConnectionOptions(name: "seedream-worker submit \(getpid())")
        options.heartbeat = settings.amqpHeartbeat
        options.tls = settings.amqpTLS
        connection = try await Self.connect(settings.amqpURLs, options)
        try await connection.selectConfirms()
        guard waits else {
            replyQueue = replyTo.map { ByteString($0) }
            replies = nil
            return
        }
        let declared = try await connection.declare(
            QueueDeclaration(name: "", durable: false, exclusive: true, autoDelete: true)
        )
        replyQueue = declared.name
        replies = try await connection.consume(from: declared.name, prefetch: 0, acknowledges: false)
    }

    private static func connect(_ urls: [AMQPURL], _ options: AMQPConnectionOptions) async throws -> AMQPConnection {
        for url in urls.dropLast() {
            if let connection = try? await AMQPConnection.open(url, options: options) { return connection }
        }
        return try await AMQPConnection.open(urls[urls.count - 1], options: options)
    }

    /// Publishes a job; waits only where too many are in flight already.
    func publish(_ text: [UInt8], id: String?, name: String) async throws {
        count += 1
        let id = ByteString(id ?? "\(prefix)-\(count)")
        var properties = MessageProperties()
        properties.contentType = "application/json"
        properties.deliveryMode = 2
        properties.messageID = id
        properties.replyTo = replyQueue
        properties.timestamp = UInt64(clamping: Timestamp.now.seconds)
        let message = OutboundMessage(routingKey: ByteString(queue), properties: properties, body: text)
        let connection = connection
        inFlight.append((name, id, Task { try await connection.publish(message) }))
        if inFlight.count >= Self.mostInFlight { try await settleOldest(Self.mostInFlight / 2) }
    }

    /// Notes a job that cannot be published.
    func fail(_ line: String) {
        unpublished += 1
        Console.error(line)
    }

    /// Waits for all confirms.
    func finishPublishing() async throws {
        try await settleOldest(inFlight.count)
    }

    private func settleOldest(_ number: Int) async throws {
        for publish in inFlight.prefix(number) {
            switch try await publish.task.value {
            case .confirmed:
                published += 1
                waiting.insert(publish.id)
            case .returned:
                fail("\(publish.name): there is no queue \(queue); run a worker once, or declare the queue")
            case .refused:
                fail("\(publish.name): the broker refused the job; is the queue full?")
            }
        }
        inFlight.removeFirst(number)
        Console.progress("\(published) published")
    }

    /// Prints each reply as it comes, until all are there or the time is over.
    func waitForReplies(_ timeout: Duration) async throws {
        guard let replies, !waiting.isEmpty else { return }
        let connection = connection
        let timer = Task {
            try await Task.sleep(for: timeout)
            try await connection.cancel(replies)
        }
        defer { timer.cancel() }
        for await delivery in replies.deliveries {
            guard let id = delivery.properties.correlationID, waiting.remove(id) != nil else { continue }
            replied += 1
            let reply = try? JSONValue(parsing: delivery.body)
            Console.result(format == .json ? String(decoding: delivery.body, as: UTF8.self) : Self.line(id, reply))
            if reply?["status"]?.text != "submitted" {
                failuresByCode[reply?["error"]?["code"]?.text ?? "unreadable_reply", default: 0] += 1
            }
            Console.progress("\(replied) of \(published) replied")
            if waiting.isEmpty { break }
        }
        missing = waiting.count
    }

    /// A reply for people: what became of the job, and why.
    private static func line(_ id: ByteString, _ reply: JSONValue?) -> String {
        if let taskID = reply?["task_id"]?.text { return "\(id)  submitted  \(taskID)" }
        let error = reply?["error"]
        let code = error?["code"]?.text ?? "unreadable_reply"
        return "\(id)  failed     \(code): \(error?["message"]?.text ?? "")"
    }

    func close() async {
        await connection.close()
    }

    var hasFailures: Bool { unpublished > 0 || missing > 0 || !failuresByCode.isEmpty }

    /// What became of the jobs, in one line.
    var summary: String {
        var parts = ["\(published) published"]
        if unpublished > 0 { parts.append("\(unpublished) not published") }
        if replies != nil {
            let failed = failuresByCode.values.reduce(0, +)
            parts.append("\(replied - failed) submitted")
            if failed > 0 {
                let codes = failuresByCode.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
                parts.append("\(failed) failed (\(codes.joined(separator: ", ")))")
            }
            if missing > 0 { parts.append("\(missing) without a reply in time") }
        }
        return parts.joined(separator: ", ")
    }
}
