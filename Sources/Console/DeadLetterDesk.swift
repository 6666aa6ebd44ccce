import AMQP
import EditJob
import EditWorker
import JSON
import NIOCore
import OperatorTools

/// What the pages do with dead letters, by the same code as the commands.
struct DeadLetterDesk: Sendable {
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
        /// Letters that somebody else holds.
        var missing = 0
        var isWhole: Bool { seen + missing >= total }
    }

    /// What an action came to.
    struct Tally: Sendable {
        var done = 0
        var left = 0
        var faults: [String] = []
    }

    private let options: ConsoleOptions
    private let turns: [Queue: WalkTurn] = [.deadLetters: WalkTurn(), .unknown: WalkTurn()]

    init(_ options: ConsoleOptions) {
        self.options = options
    }

    private func name(_ queue: Queue) -> ByteString {
        queue == .unknown ? options.queues.unknown : options.queues.deadLetters
    }

    /// Walks over a queue when it is its turn, and puts back what was not removed.
    private func walk<Result>(
        _ queue: Queue,
        _ body: (DeadLetterQueue) async throws -> Result
    ) async throws -> Result {
        let turn = await turns[queue]?.begin()
        let walk = try await open(queue)
        // The page need not wait for it, but the next walk must.
        func leave() async {
            let rest = walk.rest
            await walk.close()
            Task {
                await rest.waitUntilBack()
                withExtendedLifetime(turn) {}
            }
        }
        do {
            let result = try await body(walk)
            try await walk.confirmRemovals()
            await leave()
            return result
        } catch {
            await leave()
            throw error
        }
    }

    private func open(_ queue: Queue) async throws -> DeadLetterQueue {
        let name = name(queue)
        return try await options.broker.open(for: "dead-letters") { url, options in
            try await DeadLetterQueue(name, at: url, options: options)
        }
    }

    /// The oldest letters that a filter takes, at most `limit`; looks no longer than a person waits.
    ///
    /// Throws `AMQPError`, with `notFound` where there is no such queue.
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
            while look.letters.count < limit, .now < end, look.seen < walk.count,
                let letter = try await walk.next()
            {
                look.seen += 1
                if filter.takes(letter) { look.letters.append(letter) }
            }
            look.missing = walk.missing
            return look
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
            // Another connection than the walk's, which stops reading while there is enough to do.
            let connection = try await options.broker.connect(for: "replay")
            var tally = Tally()
            do {
                let publisher = try await connection.makePublisher()
                let replay = Replay(walk, over: publisher, replayOptions) { event in
                    switch event {
                    case .replayed: tally.done += 1
                    case .left: tally.left += 1
                    case .invalid(_, let fault): tally.faults.append(fault.description)
                    }
                }
                try await replay.run(filter, limit: filter.marks.isEmpty ? nil : filter.marks.count)
            } catch {
                await connection.close()
                throw error
            }
            await connection.close()
            return tally
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
    func export(_ queue: Queue, _ filter: DeadLetterFilter) -> AsyncThrowingStream<ByteBuffer, any Error> {
        let export = Export(self, queue, filter)
        return AsyncThrowingStream { try await export.next() }
    }

    /// A walk that goes on with whoever reads, and ends with them.
    private actor Export {
        private let desk: DeadLetterDesk
        private let queue: Queue
        private let filter: DeadLetterFilter
        private var turn: WalkTurn.Turn?
        private var walk: DeadLetterQueue?
        private var limit: Task<Void, Never>?
        private var isOver = false

        init(_ desk: DeadLetterDesk, _ queue: Queue, _ filter: DeadLetterFilter) {
            self.desk = desk
            self.queue = queue
            self.filter = filter
        }

        deinit { limit?.cancel() }

        /// Puts the letters back that somebody has stopped reading.
        private func end() async {
            isOver = true
            let rest = walk?.rest
            await walk?.close()
            walk = nil
            await rest?.waitUntilBack()
            turn = nil
        }

        /// The next letter's line, nil after the last.
        func next() async throws -> ByteBuffer? {
            guard !isOver else { throw CancellationError() }
            if turn == nil {
                turn = await desk.turns[queue]?.begin()
                limit = Task { [weak self] in
                    try? await Task.sleep(for: DeadLetterQueue.longestHold)
                    if !Task.isCancelled { await self?.end() }
                }
            }
            let walk = if let walk { walk } else { try await desk.open(queue) }
            self.walk = walk
            while let letter = try await walk.next() {
                guard filter.takes(letter) else { continue }
                return ByteBuffer(bytes: letter.exported.encoded() + [UInt8(ascii: "\n")])
            }
            limit?.cancel()
            await end()
            return nil
        }
    }
}
