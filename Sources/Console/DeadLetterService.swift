import EditJob
import EditWorker
import JSON
import NIOCore
import OperatorTools
import RabbitMQ

/// What the pages do with dead letters, by the same code as the commands.
struct DeadLetterService: Sendable {
    /// Which queue of dead letters.
    enum Queue: String, Sendable {
        case deadLetters = "dlq"
        case unknown

        var place: Layout.Place { self == .unknown ? .unknown : .deadLetters }
    }

    /// Letters that were looked at, in their order.
    struct Look: Sendable {
        /// Those that were asked for.
        var letters: [DeadLetter] = []
        /// How many were looked at, from the oldest.
        var seen = 0
        /// How many the queue has.
        var total = 0
        /// Letters that another consumer holds.
        var missing = 0
        var isWhole: Bool { seen + missing >= total }
    }

    /// How many letters an action is about: not the letters, which may be more than there is memory for.
    struct Summary: Sendable {
        var byCode: [String: Int] = [:]
        var count = 0
        /// Letters that may have been paid for.
        var inDoubt = 0
        /// Whether all were counted.
        var isWhole = false
    }

    /// What an action came to.
    struct Tally: Sendable {
        var done = 0
        var left = 0
        /// Replayed jobs whose requesters are gone.
        var withoutRequester = 0
        var faults: [String] = []
    }

    private let options: ConsoleOptions
    private let deadLetterTurns = WalkTurn()
    private let unknownTurns = WalkTurn()

    init(_ options: ConsoleOptions) {
        self.options = options
    }

    private func name(_ queue: Queue) -> ByteString {
        queue == .unknown ? options.queues.unknown : options.queues.deadLetters
    }

    private func turn(at queue: Queue) async -> WalkTurn.Turn {
        await (queue == .unknown ? unknownTurns : deadLetterTurns).begin()
    }

    /// Walks over a queue when it is its turn, and puts back what was not removed.
    private func walk<Result>(
        _ queue: Queue,
        _ body: (DeadLetterQueue) async throws -> Result
    ) async throws -> Result {
        let turn = await turn(at: queue)
        let walk = try await open(queue)
        // The page need not wait for the end of the walk, but the next walk must.
        defer {
            let ending = walk.ending
            Task {
                await ending.finish()
                withExtendedLifetime(turn) {}
            }
        }
        let result = try await body(walk)
        try await walk.confirmRemovals()
        return result
    }

    private func open(_ queue: Queue) async throws -> DeadLetterQueue {
        let name = name(queue)
        return try await options.broker.open(for: "dead-letters") { url, options in
            try await DeadLetterQueue(name, at: url, options: options)
        }
    }

    /// The oldest letters that a filter takes, at most `limit`; looks no longer than a person waits.
    ///
    /// Throws `AMQPError`, with `notFound` if there is no such queue.
    func look(
        _ queue: Queue,
        _ filter: DeadLetterFilter,
        limit: Int,
        patience: Duration = .milliseconds(700)
    ) async throws -> Look {
        try await walk(queue) { walk in
            var look = Look()
            look.total = walk.count
            let end = ContinuousClock.now + patience
            while look.letters.count < limit, .now < end, let letter = try await walk.next() {
                look.seen += 1
                if filter.takes(letter) { look.letters.append(letter) }
            }
            look.missing = walk.missing
            return look
        }
    }

    /// Counts the letters that an action would be about, for at most five seconds.
    ///
    /// Throws as `look`.
    func summary(_ queue: Queue, _ filter: DeadLetterFilter) async throws -> Summary {
        try await walk(queue) { walk in
            var summary = Summary()
            let most = filter.marks.isEmpty ? Int.max : filter.marks.count
            let end = ContinuousClock.now + .seconds(5)
            while summary.count < most, .now < end {
                guard let letter = try await walk.next() else {
                    summary.isWhole = true
                    break
                }
                guard filter.takes(letter) else { continue }
                summary.count += 1
                summary.byCode[letter.code, default: 0] += 1
                if queue == .unknown || letter.mayHaveBeenCharged { summary.inDoubt += 1 }
            }
            if summary.count == most { summary.isWhole = true }
            return summary
        }
    }

    /// Publishes letters again; those that may have been paid for only with consent.
    ///
    /// Throws `AMQPError` or `Replay.Refusal`; all that were not replayed are where they were.
    func replay(
        _ queue: Queue,
        _ filter: DeadLetterFilter,
        acceptsDoubleCharge: Bool,
        correction: JobCorrection? = nil
    ) async throws -> Tally {
        try await walk(queue) { walk in
            var replayOptions = Replay.Options(queue: options.queues.jobs)
            replayOptions.isDoubtful = queue == .unknown
            replayOptions.acceptsDoubleCharge = acceptsDoubleCharge
            replayOptions.correction = correction
            replayOptions.unknownFields = options.unknownFields
            let requesters = options.broker.inspector
            replayOptions.requesters = requesters
            defer { Task { await requesters.close() } }
            // Another connection than the walk's, which stops reading while there is enough to do.
            return try await options.broker.withConnection(for: "replay") { connection in
                var tally = Tally()
                let publisher = try await connection.makePublisher()
                let replay = Replay(walk, over: publisher, replayOptions) { event in
                    switch event {
                    case .replayed: tally.done += 1
                    case .left: tally.left += 1
                    case .withoutRequester: tally.withoutRequester += 1
                    case .noTask: break
                    case .invalid(_, let fault): tally.faults.append(fault.description)
                    }
                }
                try await replay.run(filter, limit: filter.marks.isEmpty ? nil : filter.marks.count)
                return tally
            }
        }
    }

    /// Removes letters for ever.
    func discard(_ queue: Queue, _ filter: DeadLetterFilter) async throws -> Tally {
        try await walk(queue) { walk in
            var tally = Tally()
            try await walk.each(filter, limit: filter.marks.isEmpty ? nil : filter.marks.count) { letter in
                try walk.remove(letter)
                tally.done += 1
                return true
            }
            return tally
        }
    }

    /// The letters that a filter takes, as lines of NDJSON; no more are in memory than are on their way.
    ///
    /// Throws as `look`, before the first line.
    func export(_ queue: Queue, _ filter: DeadLetterFilter) async throws -> AsyncThrowingStream<ByteBuffer, any Error> {
        let export = Export(self, queue, filter, turn: await turn(at: queue))
        try await export.open()
        return AsyncThrowingStream { try await export.next() }
    }

    /// A walk that goes on as its reader does, and ends with it or after the longest time that letters may be held.
    private actor Export {
        private let service: DeadLetterService
        private let queue: Queue
        private let filter: DeadLetterFilter
        private var turn: WalkTurn.Turn?
        private var walk: DeadLetterQueue?
        private var limit: Task<Void, Never>?

        init(_ service: DeadLetterService, _ queue: Queue, _ filter: DeadLetterFilter, turn: WalkTurn.Turn?) {
            self.service = service
            self.queue = queue
            self.filter = filter
            self.turn = turn
        }

        isolated deinit {
            limit?.cancel()
            guard let turn, let ending = walk?.ending else { return }
            // The reader has stopped; the next walk waits for the letters.
            Task {
                await ending.finish()
                withExtendedLifetime(turn) {}
            }
        }

        func open() async throws {
            let walk = try await service.open(queue)
            self.walk = walk
            limit = Task { [weak self] in
                try? await Task.sleep(for: DeadLetterQueue.longestHold)
                if !Task.isCancelled { await self?.end() }
            }
        }

        private func end() async {
            limit?.cancel()
            let ending = walk?.ending
            walk = nil
            await ending?.finish()
            turn = nil
        }

        /// The next letter's line, nil after the last.
        func next() async throws -> ByteBuffer? {
            guard let walk else { throw CancellationError() }
            while let letter = try await walk.next() {
                guard filter.takes(letter) else { continue }
                return ByteBuffer(bytes: letter.exported.encoded() + [UInt8(ascii: "\n")])
            }
            await end()
            return nil
        }
    }
}
