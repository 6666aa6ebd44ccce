import EditJob
import EditWorker
import JSON
import Journal
import Logging
import NIOConcurrencyHelpers
import RabbitMQ
import SeedreamAPI

/// A broker, an API and a machine on which the worker can be stopped dead before and after each effect.
final class SimulatedWorld: Sendable {
    /// Every effect that the pipeline has on the world.
    enum Effect: String, CaseIterable, Sendable {
        case journalBegin
        case submit
        case journalFinish
        case publishReply
        case publishDeadLetter
        case publishRetry
        case acknowledge
    }

    /// A place at which the worker stops: before or after the n-th effect since the last stop.
    struct CrashPoint: Hashable, Sendable, CustomStringConvertible {
        let effect: Int
        let isBefore: Bool
        var description: String { "\(isBefore ? "before" : "after") effect \(effect)" }
    }

    /// What a stop takes with it.
    enum Stop: Sendable {
        /// The whole process.
        case kill
        /// The broker's connection: what was acknowledged or confirmed in that instant is not known, the process goes on.
        case connectionLost
    }

    private struct State {
        var queue: [Delivery] = []
        var replies: [JSONValue] = []
        var deadLetters = 0
        var unknown: [JSONValue] = []
        var copies: [OutboundMessage] = []
        var submissions = 0
        var bodies: [[UInt8]] = []
        var accepted = 0
        var effects = 0
        var isStopped = false
        var kills = 0
        var crashes: [CrashPoint] = []
        var seen: [Effect] = []
        var crashedAt: Set<String> = []
        var nextTag: UInt64 = 1
        var rejected: [Bool] = []
        var deliveries: [DeliveryTag: Int64] = [:]
    }

    private let state = NIOLockedValueBox(State())
    private let stop: Stop
    private let answers: @Sendable (Int) -> (result: SubmissionResult, isAccepted: Bool)
    /// Whether the requester of a direct reply-to is still there.
    let hasRequester: Bool

    /// A world with one job on the queue, whose n-th submission is answered so.
    init(
        body: String,
        crashes: [CrashPoint] = [],
        stop: Stop = .connectionLost,
        hasRequester: Bool = true,
        change: (inout MessageProperties) -> Void = { _ in },
        answers: @escaping @Sendable (Int) -> (result: SubmissionResult, isAccepted: Bool)
    ) {
        self.stop = stop
        self.answers = answers
        self.hasRequester = hasRequester
        var properties = MessageProperties()
        properties.messageID = "job"
        change(&properties)
        state.withLockedValue { state in
            state.crashes = crashes
            state.queue = [
                Delivery(
                    tag: DeliveryTag(epoch: 1, number: 1),
                    routingKey: "q",
                    properties: properties,
                    body: Array(body.utf8)
                )
            ]
        }
    }

    /// Whether the connection of the deliveries is still there.
    let liveness = NIOLockedValueBox<@Sendable () -> Bool>({ true })
    /// The rejections, with whether the delivery went back to its queue.
    var rejected: [Bool] { state.withLockedValue { $0.rejected } }
    /// Retries and dead letters as they were published.
    var copies: [OutboundMessage] { state.withLockedValue { $0.copies } }
    var replies: [JSONValue] { state.withLockedValue { $0.replies } }
    var deadLetters: Int { state.withLockedValue { $0.deadLetters } }
    var unknown: Int { state.withLockedValue { $0.unknown.count } }
    var accepted: Int { state.withLockedValue { $0.accepted } }
    /// Whether the job was delivered to somebody who left it without an end.
    var isRedelivered: Bool { state.withLockedValue { $0.deliveries.values.contains { $0 > 1 } } }
    /// How often the process was stopped.
    var kills: Int { state.withLockedValue { $0.kills } }
    /// What was submitted, in turn.
    var bodies: [[UInt8]] { state.withLockedValue { $0.bodies } }
    var submissions: Int { state.withLockedValue { $0.submissions } }
    var isDone: Bool { state.withLockedValue { $0.queue.isEmpty } }
    var seen: [Effect] { state.withLockedValue { $0.seen } }
    /// `before submit`, `after acknowledge` …: where it was really stopped.
    var crashedAt: Set<String> { state.withLockedValue { $0.crashedAt } }
    /// Whether the process was stopped and must be started anew.
    var isStopped: Bool { state.withLockedValue { $0.isStopped } }

    func restart() {
        state.withLockedValue { state in
            state.isStopped = false
            state.effects = 0
        }
    }

    /// The next delivery, nil if the queue is empty.
    func deliver() -> Delivery? {
        state.withLockedValue { state in
            guard let next = state.queue.first else { return nil }
            let earlier = state.deliveries[next.tag, default: 0]
            state.deliveries[next.tag] = earlier + 1
            // As a quorum queue counts.
            var properties = next.properties
            if earlier > 0 { properties.headers = properties.headers ?? [:] }
            if earlier > 0 { properties.headers?["x-delivery-count"] = .int64(earlier) }
            return Delivery(
                tag: next.tag,
                redelivered: earlier > 0,
                routingKey: next.routingKey,
                properties: properties,
                body: next.body,
                acknowledger: self
            )
        }
    }

    /// Does an effect, unless the worker stops before it; after a stop nothing has any effect any more.
    private func perform<Result>(_ effect: Effect, _ body: (inout State) -> Result) -> Result? {
        state.withLockedValue { state in
            guard !state.isStopped else { return nil }
            state.effects += 1
            state.seen.append(effect)
            if crash(&state, effect, isBefore: true) { return nil }
            let result = body(&state)
            _ = crash(&state, effect, isBefore: false)
            return result
        }
    }

    private func crash(_ state: inout State, _ effect: Effect, isBefore: Bool) -> Bool {
        guard let next = state.crashes.first, next == CrashPoint(effect: state.effects, isBefore: isBefore) else {
            return false
        }
        state.crashes.removeFirst()
        state.crashedAt.insert("\(isBefore ? "before" : "after") \(effect.rawValue)")
        switch stop {
        case .kill:
            state.isStopped = true
            state.kills += 1
            return true
        case .connectionLost:
            // An effect on the broker whose outcome is not known is made again; here it is made twice, or not at all.
            state.effects = 0
            return isBefore && effect == .acknowledge
        }
    }
}

extension SimulatedWorld: Submitter {
    func submit(
        _ submission: consuming SubmissionRequest,
        over reservation: consuming Reservation
    ) async -> SubmissionResult {
        let body = submission.body

        let result = perform(.submit) { state in
            let (result, isAccepted) = answers(state.submissions)
            state.submissions += 1
            state.bodies.append(body)
            if isAccepted { state.accepted += 1 }
            return result
        }
        return result ?? .failed(.cancelled)
    }
}

extension SimulatedWorld: MessagePublisher {
    func publish(_ message: OutboundMessage, for delivery: Delivery?) async throws -> PublishResult {
        guard delivery?.isLive ?? true else { throw StaleDelivery() }
        let json = (try? JSONValue(parsing: message.body)) ?? .null
        let done: Bool?
        if message.routingKey != "q.results" { state.withLockedValue { $0.copies.append(message) } }
        switch message.routingKey {
        case "q.results": done = perform(.publishReply) { $0.replies.append(json) } != nil
        case "q.dlq": done = perform(.publishDeadLetter) { $0.deadLetters += 1 } != nil
        case "q.unknown": done = perform(.publishDeadLetter) { $0.unknown.append(json) } != nil
        default:
            done =
                perform(.publishRetry) { (state: inout State) -> Void in
                    state.nextTag += 1
                    state.queue.append(
                        Delivery(
                            tag: DeliveryTag(epoch: 1, number: state.nextTag),
                            routingKey: "q",
                            properties: message.properties,
                            body: message.body
                        )
                    )
                } != nil
        }
        if done != true { throw CancellationError() }
        return .confirmed
    }

    func exists(queue: ByteString) async throws -> Bool? { hasRequester }
    func restoreTopology() async throws {}
    var frameMax: Int { get async throws { 131_072 } }

    /// Takes the next delivery through a pipeline; false if the queue is empty.
    func step(_ pipeline: JobPipeline) async -> Bool {
        guard let delivery = deliver() else { return false }
        await pipeline.take(delivery)
        return true
    }

    /// The same for one that the broker has taken out of the job queue.
    func step(_ undelivered: UndeliveredJobs) async -> Bool {
        guard let delivery = deliver() else { return false }
        await undelivered.take(delivery)
        return true
    }
}

extension SimulatedWorld: Acknowledger {
    var isLive: Bool { liveness.withLockedValue { $0 }() }

    func acknowledge(_ tag: DeliveryTag) -> Bool {
        perform(.acknowledge) { state in state.queue.removeAll { $0.tag == tag } } != nil
    }

    func reject(_ tag: DeliveryTag, requeue: Bool) -> Bool {
        state.withLockedValue { state in
            state.rejected.append(requeue)
            if !requeue { state.queue.removeAll { $0.tag == tag } }
        }
        return true
    }
}

/// A journal whose effects can be stopped, around a real one.
struct StoppableJournal: SubmissionJournal {
    let journal: any SubmissionJournal
    let world: SimulatedWorld

    func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        guard world.mayBegin(.journalBegin) else { throw JournalFault(description: "stopped") }
        let answer = try await journal.begin(request)
        guard world.mayGoOn(.journalBegin) else { throw JournalFault(description: "stopped") }
        return answer
    }

    func finish(_ id: String, _ end: JobEnd) async throws(JournalFault) {
        guard world.mayBegin(.journalFinish) else { throw JournalFault(description: "stopped") }
        try await journal.finish(id, end)
        guard world.mayGoOn(.journalFinish) else { throw JournalFault(description: "stopped") }
    }

    func acknowledged(_ id: String) async throws(JournalFault) { try await journal.acknowledged(id) }
    func mark(wasDeliveredBefore: Bool, awaitsVerdict: Bool) -> DeliveryMark {
        journal.mark(wasDeliveredBefore: wasDeliveredBefore, awaitsVerdict: awaitsVerdict)
    }
    func doubt() -> DeliveryMark { journal.doubt() }
    func isCancelled(_ id: String) -> Bool { journal.isCancelled(id) }
    func sweep(before moment: Int64) async throws(JournalFault) { try await journal.sweep(before: moment) }
    func close() async {}
}

extension SimulatedWorld {
    /// Counts an effect that is made elsewhere; false if the worker stops before it.
    fileprivate func mayBegin(_ effect: Effect) -> Bool {
        state.withLockedValue { state in
            guard !state.isStopped else { return false }
            state.effects += 1
            state.seen.append(effect)
            _ = crash(&state, effect, isBefore: true)
            return !state.isStopped
        }
    }

    /// False if the worker stops after the effect.
    fileprivate func mayGoOn(_ effect: Effect) -> Bool {
        state.withLockedValue { state in
            guard !state.isStopped else { return false }
            _ = crash(&state, effect, isBefore: false)
            return !state.isStopped
        }
    }
}
