package import EditJob
package import Journal
import NIOConcurrencyHelpers
package import RabbitMQ
import SharedValues

/// The journal that all replicas of a queue share: a stream of the broker, in which each tells the others what it submits.
///
/// A submission is let through once its `begin` was read back, since only then the order of the stream is known. An end was
/// read back, too, before it counts: the delivery is acknowledged after that. `LedgerReplica` decides all of it; here are the
/// lock, the clocks and those who wait.
package final class LedgerJournal: SubmissionJournal {
    /// What a ledger needs to know of the worker and its broker.
    package struct Options: Sendable {
        package var replica: LedgerReplica.Options
        /// The stream, `Q.ledger`.
        package var stream: QueueDeclaration
        package var jobs: ByteString
        /// `Q.undelivered`; nil if there is none.
        package var undelivered: ByteString?
        /// Whether a stream that is missing may be declared.
        package var mayDeclare: Bool
        /// What the jobs run on, so that the records of those that are ready together go out in one message; nil for
        /// Swift's pool.
        package var executor: (any TaskExecutor)?

        package init(
            replica: LedgerReplica.Options,
            stream: QueueDeclaration,
            jobs: ByteString,
            mayDeclare: Bool
        ) {
            self.replica = replica
            self.stream = stream
            self.jobs = jobs
            self.mayDeclare = mayDeclare
        }
    }

    /// What the ledger tells those who count: see `LedgerEffect`.
    package protocol Observer: Sendable {
        func read(_ kinds: [String: Int])
        func lagged(_ lag: Duration)
        func remembers(_ entries: Int)
        func knowsFleet(replicas: Int, imagesLeft: Int?)
        func isOutdated()
        func awaitsOthers(atMost: Duration)
        func readStranger(_ user: String, isAtStart: Bool)
        func metNamesake()
    }

    /// Hears of everything that happens to the replica, in order.
    package typealias Recorder = @Sendable (LedgerEvent, LedgerMoment, [LedgerEffect]) -> Void

    struct State {
        var replica: LedgerReplica
        var link: Link?
        var waiters: [LedgerEvent.Waiter: CheckedContinuation<LedgerEffect.Answer, Never>] = [:]
        var lastWaiter: LedgerEvent.Waiter = 0
        /// Why the gate is closed, for the others.
        var gate: String?
        var recorder: Recorder?
    }

    /// How often the replica is told the time.
    private static let turn = Duration.milliseconds(250)

    let options: Options
    let observer: any Observer
    let state: NIOLockedValueBox<State>
    /// What other replicas, or people, tell the fleet; for one reader.
    package let changes: AsyncStream<FleetChange>
    private let tellChange: AsyncStream<FleetChange>.Continuation
    private let clock = NIOLockedValueBox<Task<Void, Never>?>(nil)

    /// A ledger that is not connected: see `attach`.
    package init(_ options: Options, observer: any Observer) {
        self.options = options
        self.observer = observer
        (changes, tellChange) = AsyncStream.makeStream()
        state = NIOLockedValueBox(State(replica: LedgerReplica(options.replica)))
    }

    /// A name that no other process ever has.
    package static var freshName: String { String(UInt64.random(in: .min ... .max), radix: 36) }

    /// How much of the ledger was read, in percent; nil once submissions can be let through.
    package var progress: Int? {
        state.withLockedValue { $0.replica.isReady ? nil : $0.replica.progress }
    }

    /// Jobs that are remembered.
    package var entries: Int { state.withLockedValue { $0.replica.state.count } }

    /// Says why this replica submits nothing, for its reports; nil while it does.
    package func tellGate(_ reason: String?) { state.withLockedValue { $0.gate = reason } }

    /// Says who hears of everything, for a test.
    package func record(by recorder: @escaping Recorder) {
        state.withLockedValue { $0.recorder = recorder }
    }

    // MARK: - The journal

    package func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        switch await cancellableAnswer(to: { .wants(request, $0) }) {
        case .job(let prior): return prior
        case .fault(let fault): throw fault
        case .done, .probe: throw LedgerReplica.silent
        }
    }

    package func finish(_ id: String, _ end: JobEnd) async throws(JournalFault) {
        // However long it takes: until then the delivery stays unacknowledged, and the others know that it is under way.
        _ = await answer { .writes(.end(id: id, end.recorded), $0) }
    }

    package func acknowledged(_ id: String) async throws(JournalFault) {
        handle(.writes(.settled(id: id), nil))
    }

    package func maySubmit(_ id: String?) -> Bool {
        state.withLockedValue { $0.replica.maySubmit(id, at: .now) }
    }

    package func isCancelled(_ id: String) -> Bool { state.withLockedValue { $0.replica.state.isCancelled(id) } }

    package func mayTellLate(_ id: String) -> Bool { state.withLockedValue { $0.replica.mayTellLate(id) } }

    package func mark(wasDeliveredBefore: Bool, awaitsVerdict: Bool) -> DeliveryMark {
        let wasDeliveredBefore = wasDeliveredBefore || awaitsVerdict
        let (mark, isWatching) = state.withLockedValue { state in
            let isInDoubt = wasDeliveredBefore && state.replica.doubtsDeliveries(at: .now)
            let mark = DeliveryMark(
                isInDoubt: isInDoubt,
                losses: wasDeliveredBefore ? state.replica.losses : nil,
                reads: state.replica.reads
            )
            return (mark, state.replica.watchesDeliveries(at: .now))
        }
        if isWatching { handle(.delivered(wasBefore: wasDeliveredBefore)) }
        return mark
    }

    package func doubt() -> DeliveryMark {
        let mark = state.withLockedValue { state in
            DeliveryMark(isInDoubt: state.replica.doubtsDeliveries(at: .now), losses: state.replica.losses)
        }
        // The others must not be told that all is known before it has its end.
        if mark.isInDoubt { handle(.delivered(wasBefore: true)) }
        return mark
    }

    package func sweep(before moment: Int64) async throws(JournalFault) {}

    package func waitUntilReady() async {
        _ = await cancellableAnswer { .waitsForReady($0) }
    }

    /// Says goodbye to the others.
    package func close() async {
        clock.withLockedValue { task in
            task?.cancel()
            task = nil
        }
        handle(.closes)
    }

    // MARK: - The fleet

    /// Whether starts wait for the fleet's rate limit.
    package var limitsStarts: Bool { options.replica.rateLimit != nil }

    /// Whether a job may start, one of `waiting` that wait; never `ask`.
    ///
    /// From any thread. `FleetChange.slots` tells when to ask again before the moment that is given.
    package func turn(waiting: Int) -> FleetSlots.Turn {
        for case .turn(let turn) in handle(.wantsStart(waiting: waiting)) { return turn }
        return .wait(until: .now + Self.turn)
    }

    /// Writes down how a task ended that was followed; nil if its images are there.
    package func tellFollowed(_ id: String, taskID: String, code: String?) {
        handle(.writes(.followed(id: id, taskID: taskID, code: code), nil))
    }

    /// Tells the others that the account takes nothing.
    package func tellClosed(_ reason: String, for delay: Duration, isHeld: Bool) {
        let milliseconds = max(0, delay.wholeMilliseconds)
        handle(.writes(.closed(reason: reason, milliseconds: milliseconds, isHeld: isHeld), nil))
    }

    /// Tells the others that the account takes jobs again.
    package func tellOpened() { handle(.opened) }

    /// Whether this replica may be the one that tries whether the account takes jobs again.
    package func claimProbe() async -> Bool {
        await answer { .wantsProbe($0) } == .probe(true)
    }

    // MARK: - Events and effects

    /// Hands an event to the replica, and carries out what it says.
    @discardableResult
    func handle(_ event: LedgerEvent) -> [LedgerEffect] {
        let (effects, link) = state.withLockedValue { ($0.handle(event), $0.link) }
        for effect in effects { carryOut(effect, on: link) }
        return effects
    }

    private func answer(to event: (LedgerEvent.Waiter) -> LedgerEvent) async -> LedgerEffect.Answer {
        await withCheckedContinuation { continuation in
            let waiter = state.withLockedValue { $0.newWaiter(continuation) }
            handle(event(waiter))
        }
    }

    private func cancellableAnswer(to event: (LedgerEvent.Waiter) -> LedgerEvent) async -> LedgerEffect.Answer {
        let waiter = state.withLockedValue { $0.newWaiter() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                state.withLockedValue { $0.waiters[waiter] = continuation }
                handle(event(waiter))
                // It may have been cancelled before there was anything to give up.
                if Task.isCancelled { handle(.givenUp(waiter)) }
            }
        } onCancel: {
            handle(.givenUp(waiter))
        }
    }

    /// What has to be asked of the broker is asked beside everything else; the answer is an event.
    private func carryOut(_ effect: LedgerEffect, on link: Link?) {
        switch effect {
        case .inspectJobs, .greet, .look, .lookFirst, .consume, .fetch:
            Task { [self] in
                guard let link else { return }
                do throws(AMQPError) {
                    if let event = try await ask(effect, on: link) { handle(event) }
                } catch {
                    handle(.disconnected(link: link.number, isSilent: false))
                }
            }
        case .publish(let number, let body): if let link { publish(number, body, on: link) }
        case .flushSoon: Task(executorPreference: options.executor) { self.handle(.flush) }
        case .answer(let waiter, let answer):
            state.withLockedValue { $0.waiters.removeValue(forKey: waiter) }?.resume(returning: answer)
        case .tell(let change): tellChange.yield(change)
        case .leave: if let link { Task { await link.connection.close() } }
        case .needsName:
            observer.metNamesake()
            handle(.named(Self.freshName))
        case .turn: break
        case .read(let kinds): observer.read(kinds)
        case .lagged(let lag): observer.lagged(lag)
        case .remembers(let entries): observer.remembers(entries)
        case .knowsFleet(let replicas, let left): observer.knowsFleet(replicas: replicas, imagesLeft: left)
        case .isOutdated: observer.isOutdated()
        case .awaitsOthers(let patience): observer.awaitsOthers(atMost: patience)
        case .readStranger(let user, let isAtStart): observer.readStranger(user, isAtStart: isAtStart)
        }
    }

    /// Carries out what a new connection begins with, up to the reading of the stream; an error is the connection's.
    func begin(on link: Link, _ first: [LedgerEffect]) async throws(AMQPError) {
        var effects = first[...]
        while let effect = effects.popFirst() {
            switch effect {
            case .inspectJobs, .greet, .look, .consume:
                do throws(AMQPError) {
                    guard let answer = try await ask(effect, on: link) else { continue }
                    effects += state.withLockedValue { $0.handle(answer) }
                } catch {
                    handle(.disconnected(link: link.number, isSilent: false))
                    throw error
                }
            default: carryOut(effect, on: link)
            }
        }
    }

    /// Tells the replica the time, again and again; ends with the ledger.
    func startClock() {
        clock.withLockedValue { task in
            guard task == nil else { return }
            task = Task { [weak self] in
                while !Task.isCancelled {
                    try? await Task.sleep(for: Self.turn)
                    guard let self else { return }
                    let (gate, link) = self.state.withLockedValue { ($0.gate, $0.link) }
                    self.handle(.tick(gate: gate, isBlocked: link?.connection.isBlocked ?? false))
                }
            }
        }
    }
}

extension LedgerJournal.State {
    /// The replica's turn: one event after the other, under the lock.
    mutating func handle(_ event: LedgerEvent) -> [LedgerEffect] {
        let now = LedgerMoment.now
        let effects = replica.handle(event, at: now)
        recorder?(event, now, effects)
        return effects
    }

    mutating func newWaiter(
        _ continuation: CheckedContinuation<LedgerEffect.Answer, Never>? = nil
    ) -> LedgerEvent.Waiter {
        lastWaiter += 1
        waiters[lastWaiter] = continuation
        return lastWaiter
    }
}
