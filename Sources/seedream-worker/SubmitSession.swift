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
    /// A job on its way.
    private struct Published {
        let id: ByteString
        let number: Int
        /// Where it stands in the files, for people.
        let name: String
    }

    private let connection: AMQPConnection
    private let queue: String
    /// Where jobs are published: the producers' exchange, or the default one if there is none yet.
    private let exchange: ByteString
    private let priority: UInt8?
    private let format: OutputFormat
    private var run: SubmitRun
    private let isResumed: Bool
    private let follows: Bool
    private let images: ImageDirectory?
    private let proxies: EnvironmentProxies
    private var downloads: [Task<Void, Never>] = []
    private var downloading = 0
    private var waitingDownloads: [CheckedContinuation<Void, Never>] = []
    private var imagesSaved = 0
    private var imagesMissing = 0
    private let replyQueue: ByteString?
    private let replies: Consumer?
    private let broker: Publisher
    private var publisher: JobPublisher<Published>?
    /// The numbers of the jobs whose replies are to come, by the job's id: a file may have the same id twice.
    private var waiting: [ByteString: [Int]] = [:]
    private var replyLoop: Task<Void, Never>?
    private var isPublishing = true
    private var published = 0
    private var unpublished = 0
    private var replied = 0
    private var failuresByCode: [String: Int] = [:]
    /// This many are published before a person can do anything about it.
    private static let fewJobs = 1000
    private var hasAnnounced = false
    private let showsProgress: Bool
    private var publishProgress: ProgressLine
    private var replyProgress = ProgressLine("replied")

    init(
        _ settings: WorkerSettings,
        run: SubmitRun,
        isResumed: Bool,
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
        self.isResumed = isResumed
        queue = settings.queueName
        // A reply that goes through a pipe to the same terminal would appear in the middle of a line of progress.
        showsProgress = !waits || !Output.isPipe
        publishProgress = ProgressLine("published", total: total.map { max(0, $0 - run.count) })
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
    func publish(_ job: SubmittedJob, number: Int, name: String) async throws {
        // After that, even `kill -9` leaves something that can be gone on with.
        if published == Self.fewJobs, !hasAnnounced {
            hasAnnounced = true
            publishProgress.clear()
            Output.error(
                "should this be killed, this repeats it without paying twice: \(commandLine(run.prefix + ":0"))"
            )
        }
        let id = ByteString(job.id ?? "\(run.prefix)-\(number)")
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
        if replies != nil { waiting[id, default: []].append(number) }
        try await currentPublisher().publish(message, for: Published(id: id, number: number, name: name))
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
            if replies == nil { run.finish(job.number) }
            if showsProgress { publishProgress.show(published) }
            return
        }
        waiting[job.id]?.removeAll { $0 == job.number }
        if waiting[job.id]?.isEmpty == true { waiting[job.id] = nil }
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

    /// Notes one reply less to come; the number of its job.
    private func stopWaiting(for id: ByteString) -> Int? {
        guard var numbers = waiting[id], !numbers.isEmpty else { return nil }
        let number = numbers.removeFirst()
        waiting[id] = numbers.isEmpty ? nil : numbers
        return number
    }

    /// Prints a reply; false after the last.
    private func take(_ delivery: Delivery) -> Bool {
        let reply = try? JSONValue(parsing: delivery.body)
        guard let id = delivery.properties.correlationID, waiting[id] != nil else { return true }
        // With the images comes another one.
        let isLast = reply?["status"]?.text != "submitted" || reply?["follows"] != .boolean(true)
        var number: Int?
        if isLast {
            number = stopWaiting(for: id)
            replied += 1
        }
        if Output.isInteractive { replyProgress.clear() }
        Output.result(format == .json ? String(decoding: delivery.body, as: UTF8.self) : ReplyText.line(id.text, reply))
        if reply?["status"]?.text != "submitted", reply?["status"]?.text != "completed" {
            failuresByCode[reply?["error"]?["code"]?.text ?? "unreadable_reply", default: 0] += 1
        }
        var urls: [String] = []
        if images != nil, case .array(let elements)? = reply?["images"] {
            urls = elements.compactMap { $0["url"]?.text }
        }
        if let number { finish(number, of: id, urls) }
        if !isPublishing, showsProgress { replyProgress.show(replied) }
        return isPublishing || !waiting.isEmpty
    }

    /// A job has its last reply: it is done, or its images are saved beside all else, several at once.
    private func finish(_ number: Int, of id: ByteString, _ urls: [String]) {
        guard let images, !urls.isEmpty else { return run.finish(number) }
        var left = urls.count
        for (index, url) in urls.enumerated() {
            downloads.append(
                Task {
                    await self.waitForDownload()
                    if await self.download(url, of: id, number: index + 1, into: images) { left -= 1 }
                    if left == 0 { self.run.finish(number) }
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

    /// Whether the image is saved.
    private func download(_ url: String, of id: ByteString, number: Int, into images: ImageDirectory) async -> Bool {
        do {
            if let file = images.file(of: id.text, number: number) {
                // The run before may have saved it.
                guard !isResumed else { return true }
                throw ImageDirectory.Exists(file: file)
            }
            guard !Task.isCancelled else { throw ImageFetch.Fault.failed(.cancelled) }
            let bytes = try await ImageFetch.bytes(at: url, userAgent: "seedream-worker/\(Version.current)") {
                [proxies] in
                try? proxies.proxy(for: $0, port: $1, isSecure: $2)?.address()
            }
            try images.keep(bytes, of: id.text, number: number)
            imagesSaved += 1
            return true
        } catch {
            imagesMissing += 1
            replyProgress.clear()
            let reason = Terminal.plain("\(error)")
            Output.error("\(Terminal.plain(id.text)): image \(number) could not be saved: \(reason)")
            return false
        }
    }

    /// Waits until all images are saved that were told of, or the task is cancelled.
    func waitForImages() async {
        while let next = downloads.last {
            await withTaskCancellationHandler {
                await next.value
            } onCancel: {
                Task { await self.cancelDownloads() }
            }
            downloads.removeAll { $0 == next }
        }
    }

    private func cancelDownloads() {
        for download in downloads { download.cancel() }
    }

    /// Waits until all replies are there, or the task is cancelled.
    func waitForReplies() async {
        guard let replyLoop, !waiting.isEmpty else { return }
        await withTaskCancellationHandler {
            await replyLoop.value
        } onCancel: {
            replyLoop.cancel()
        }
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

    /// Whether replies, images, or the publication of some jobs are missing.
    var isLeft: Bool { !waiting.isEmpty || isPublishing || unpublished > 0 || imagesMissing > 0 }

    /// How to go on where not all were published, or replies are missing.
    ///
    /// Those on their way are published once more with the ids that they had, by which the worker knows them.
    var howToGoOn: [String] {
        let line = commandLine(run.text)
        let isWithoutURL = CommandLine.arguments.contains { $0.contains("://") } && !line.contains("://")
        return ["\(run.count) jobs are done; to go on with the others, run:"]
            + (isWithoutURL
                ? ["(with SEEDREAM_AMQP_URL set to the broker: a URL with a password is not repeated)"] : [])
            + [line]
    }

    private func commandLine(_ resume: String) -> String {
        CommandLineAgain.text(CommandLine.arguments, setting: "--resume", to: resume)
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
                parts.append("\(waiting.values.reduce(0) { $0 + $1.count }) without a reply yet")
            }
        }
        return parts.joined(separator: ", ")
    }
}
