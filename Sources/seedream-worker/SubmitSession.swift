import EditJob
import EditWorker
import Glibc
import JSON
import OperatorTools
import RabbitMQ
import SeedreamAPI
import Settings
import SharedValues

/// One `submit`: a connection, the publishes in flight, and the replies to come.
actor SubmitSession {
    /// What the jobs of one `submit` have in common.
    struct Run: Sendable {
        /// What the ids of jobs without an id of their own begin with; a job's number follows.
        var prefix = String(UInt64.random(in: .min ... .max), radix: 36)
        /// Jobs at the beginning that an interrupted run has published already.
        var skipped = 0

        init() {}

        /// Reads `PREFIX:COUNT`, as an interrupted run has printed it; nil if it is nothing of the kind.
        init?(_ text: String) {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, (1...64).contains(parts[0].utf8.count), let count = Int(parts[1]), count >= 0
            else { return nil }
            prefix = String(parts[0])
            skipped = count
        }
    }

    /// A job on its way.
    private struct Published {
        let id: ByteString
        /// Where it stands in the files, for people.
        let name: String
    }

    private let connection: AMQPConnection
    private let queue: String
    /// Where jobs are published: the producers' exchange, or the default one if there is none yet.
    private let exchange: ByteString
    private let priority: UInt8?
    private let format: OutputFormat
    private let run: Run
    private let follows: Bool
    private let images: ImageDirectory?
    private let proxies: EnvironmentProxies
    private var downloads: [Task<Void, Never>] = []
    private var downloading = 0
    private var waitingDownloads: [CheckedContinuation<Void, Never>] = []
    /// Until when replies and images are waited for.
    private var deadline: ContinuousClock.Instant?
    private var imagesSaved = 0
    private var imagesMissing = 0
    private let replyQueue: ByteString?
    private let replies: Consumer?
    private let broker: Publisher
    private var publisher: JobPublisher<Published>?
    /// Replies to come, by the job's id: a file may have the same id twice.
    private var waiting: [ByteString: Int] = [:]
    private var replyLoop: Task<Void, Never>?
    private var count: Int
    private var isPublishing = true
    private var published = 0
    private var unpublished = 0
    private var replied = 0
    private var failuresByCode: [String: Int] = [:]
    private let showsProgress: Bool
    private var publishProgress: ProgressLine
    private var replyProgress = ProgressLine("replied")

    init(
        _ settings: WorkerSettings,
        run: Run,
        total: Int?,
        replyTo: String?,
        waits: Bool,
        follows: Bool,
        images: ImageDirectory? = nil,
        format: OutputFormat,
        priority: UInt8? = nil
    ) async throws {
        self.priority = priority
        proxies = settings.environmentProxies
        self.images = images
        self.follows = follows
        self.format = format
        self.run = run
        count = run.skipped
        queue = settings.queueName
        // A reply that goes through a pipe to the same terminal would appear in the middle of a line of progress.
        showsProgress = !waits || !Output.isPipe
        publishProgress = ProgressLine("published", total: total.map { max(0, $0 - run.skipped) })
        connection = try await BrokerSession.open(settings, for: "submit")
        exchange = try await Self.exchange(settings, on: connection)
        broker = try await connection.makePublisher()
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

    private static func exchange(
        _ settings: WorkerSettings,
        on connection: AMQPConnection
    ) async throws(AMQPError) -> ByteString {
        let name = settings.topology.exchange.name
        do throws(AMQPError) {
            try await connection.inspect(exchange: name)
            return name
        } catch {
            switch error.code {
            // RabbitMQ 4.2.6 and 4.3.0 let only those look who may configure it.
            case .accessRefused: return name
            case .notFound where settings.jobsExchange == nil: return ""
            default: throw error
            }
        }
    }

    /// Begins to print the replies as they come.
    func listen() {
        guard let replies else { return }
        replyLoop = Task { [weak self] in
            for await delivery in replies.deliveries {
                guard let self, await self.take(delivery) else { return }
            }
        }
    }

    /// Publishes a job; waits only if too many are in flight already.
    func publish(_ job: SubmittedJob, name: String) async throws {
        count += 1
        let id = ByteString(job.id ?? "\(run.prefix)-\(count)")
        var properties = MessageProperties()
        properties.contentType = "application/json"
        properties.deliveryMode = 2
        properties.messageID = id
        properties.replyTo = replyQueue
        properties.priority = priority
        properties.timestamp = UInt64(clamping: Timestamp.now.seconds)
        job.complete(&properties)
        if follows {
            var headers = properties.headers ?? [:]
            headers[JobHeader.follow] = .boolean(true)
            properties.headers = headers
        }
        let message = OutboundMessage(
            exchange: exchange,
            routingKey: ByteString(queue),
            properties: properties,
            body: job.text
        )
        // Before the publish: the reply may be faster than the confirm.
        if replies != nil { waiting[id, default: 0] += 1 }
        try await currentPublisher().publish(message, for: Published(id: id, name: name))
    }

    private func currentPublisher() -> JobPublisher<Published> {
        if let publisher { return publisher }
        let publisher = JobPublisher<Published>(broker) { [unowned self] job, fault in
            self.assumeIsolated { $0.noteSettled(job, fault) }
        }
        self.publisher = publisher
        return publisher
    }

    private func noteSettled(_ job: Published, _ fault: JobPublisher<Published>.Fault?) {
        guard let fault else {
            published += 1
            if showsProgress { publishProgress.show(published) }
            return
        }
        _ = stopWaiting(for: job.id)
        switch fault {
        case .noQueue:
            fail("\(job.name): there is no queue \(queue); run a worker once, or run: seedream-worker topology declare")
        case .refused:
            fail("\(job.name): the broker refused the job; is the queue full?")
        }
    }

    /// Notes a job that cannot be published.
    func fail(_ line: String) {
        unpublished += 1
        publishProgress.clear()
        Output.error(line)
    }

    /// Waits for all confirms.
    func finishPublishing() async throws {
        try await publisher?.finish()
        isPublishing = false
        publishProgress.clear()
        replyProgress = ProgressLine("replied", total: published)
    }

    /// Notes one reply less to come; false if none was awaited.
    private func stopWaiting(for id: ByteString) -> Bool {
        guard let count = waiting[id] else { return false }
        waiting[id] = count > 1 ? count - 1 : nil
        return true
    }

    /// Prints a reply; false after the last.
    private func take(_ delivery: Delivery) -> Bool {
        let reply = try? JSONValue(parsing: delivery.body)
        guard let id = delivery.properties.correlationID, waiting[id] != nil else { return true }
        // With the images comes another one.
        let isLast = reply?["status"]?.text != "submitted" || reply?["follows"] != .boolean(true)
        if isLast {
            _ = stopWaiting(for: id)
            replied += 1
        }
        if Output.isInteractive { replyProgress.clear() }
        Output.result(format == .json ? String(decoding: delivery.body, as: UTF8.self) : ReplyText.line(id.text, reply))
        if reply?["status"]?.text != "submitted", reply?["status"]?.text != "completed" {
            failuresByCode[reply?["error"]?["code"]?.text ?? "unreadable_reply", default: 0] += 1
        }
        if case .array(let elements)? = reply?["images"] { download(elements.compactMap { $0["url"]?.text }, of: id) }
        if !isPublishing, showsProgress { replyProgress.show(replied) }
        return isPublishing || !waiting.isEmpty
    }

    /// Saves the images of a reply beside all else, several at once.
    private func download(_ urls: [String], of id: ByteString) {
        guard let images else { return }
        for (index, url) in urls.enumerated() {
            downloads.append(
                Task {
                    await self.waitForDownload()
                    await self.download(url, of: id, number: index + 1, into: images)
                    self.endDownload()
                }
            )
        }
    }

    private static let mostDownloads = 8

    private func waitForDownload() async {
        guard downloading >= Self.mostDownloads else {
            downloading += 1
            return
        }
        // Whoever ends hands its place on.
        await withCheckedContinuation { waitingDownloads.append($0) }
    }

    private func endDownload() {
        guard !waitingDownloads.isEmpty else {
            downloading -= 1
            return
        }
        waitingDownloads.removeFirst().resume()
    }

    private func download(_ url: String, of id: ByteString, number: Int, into images: ImageDirectory) async {
        do {
            if let file = images.file(of: id.text, number: number) { throw ImageDirectory.Exists(file: file) }
            guard !Task.isCancelled else { throw ImageFetch.Fault.failed(.cancelled) }
            let bytes = try await ImageFetch.bytes(at: url, userAgent: "seedream-worker/\(Version.current)") {
                [proxies] in
                try? proxies.proxy(for: $0, port: $1, isSecure: $2)?.address()
            }
            try images.keep(bytes, of: id.text, number: number)
            imagesSaved += 1
        } catch {
            imagesMissing += 1
            replyProgress.clear()
            let reason = Terminal.plain("\(error)")
            Output.error("\(Terminal.plain(id.text)): image \(number) could not be saved: \(reason)")
        }
    }

    /// Waits until all images are saved that were told of, for as long as replies would have been waited for.
    func waitForImages() async {
        let timer = deadline.map { deadline in
            Task {
                try await Task.sleep(until: deadline, clock: .continuous)
                self.cancelDownloads()
            }
        }
        while let next = downloads.last {
            await withTaskCancellationHandler {
                await next.value
            } onCancel: {
                Task { await self.cancelDownloads() }
            }
            downloads.removeAll { $0 == next }
        }
        timer?.cancel()
    }

    private func cancelDownloads() {
        for download in downloads { download.cancel() }
    }

    /// Waits until all replies are there, the time is over, or the task is cancelled.
    func waitForReplies(_ timeout: Duration) async {
        deadline = .now + timeout
        guard let replyLoop, !waiting.isEmpty else { return }
        let timer = Task {
            try await Task.sleep(for: timeout)
            replyLoop.cancel()
        }
        await withTaskCancellationHandler {
            await replyLoop.value
        } onCancel: {
            replyLoop.cancel()
        }
        timer.cancel()
        replyProgress.clear()
        if !connection.isOpen, !waiting.isEmpty {
            Output.error(
                "seedream-worker: the connection to the broker was lost; further replies go to \(queue).results"
            )
        }
    }

    func close() async {
        replyLoop?.cancel()
        await connection.close()
    }

    var hasFailures: Bool { unpublished > 0 || imagesMissing > 0 || !waiting.isEmpty || !failuresByCode.isEmpty }

    /// How to go on where not all were published.
    ///
    /// Those on their way are published once more with the ids that they had, by which the worker knows them.
    var resumption: String {
        let settled = run.skipped + (publisher?.settled ?? 0)
        return
            "the first \(settled) jobs are dealt with; to go on, repeat the command with --resume \(run.prefix):\(settled)"
    }

    /// What became of the jobs, in one line.
    var summary: String {
        var parts = ["\(published) published"]
        if unpublished > 0 { parts.append("\(unpublished) not published") }
        if replies != nil {
            let failed = failuresByCode.values.reduce(0, +)
            parts.append("\(replied - failed) \(follows ? "completed" : "submitted")")
            if images != nil { parts.append(imagesSaved == 1 ? "1 image saved" : "\(imagesSaved) images saved") }
            if imagesMissing > 0 {
                parts.append(imagesMissing == 1 ? "1 image not saved" : "\(imagesMissing) images not saved")
            }
            if failed > 0 {
                let codes = failuresByCode.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
                parts.append("\(failed) failed (\(codes.joined(separator: ", ")))")
            }
            if !isPublishing, !waiting.isEmpty {
                parts.append("\(waiting.values.reduce(0, +)) without a reply in time")
            }
        }
        return parts.joined(separator: ", ")
    }
}
