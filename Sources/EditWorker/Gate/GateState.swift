package import SeedreamAPI
import SharedValues

/// Whether jobs may be submitted: closed while the service is at fault, so that a sick API does not burn the queue.
///
/// A state machine without I/O: outcomes and moments in, decisions out.
package struct GateState: Sendable {
    /// What a job that wants to be submitted is told.
    package enum Answer: Hashable, Sendable {
        case go
        /// Submit: your outcome decides for all.
        case probe
        /// Ask again after that moment, or after the gate has changed.
        case wait(until: ContinuousClock.Instant?)
        /// Go back to the queue.
        case giveBack
    }

    /// Why and until when the gate is closed.
    package struct Closure: Hashable, Sendable {
        package fileprivate(set) var reason: GateReason
        /// The moment from which a probe may go.
        package fileprivate(set) var until: ContinuousClock.Instant
        /// Whether jobs wait in the worker instead of going back.
        package fileprivate(set) var isHeld: Bool
        fileprivate var delay: Duration
        fileprivate var heldTotal: Duration
        fileprivate var isProbing = false
        /// Whether another replica has found the fault, or was told of it.
        package fileprivate(set) var isShared = false
        /// What this process lacks, if that is the fault.
        package fileprivate(set) var cause: SubmissionOutcome.ServiceFault.Cause?
        /// Whether it is a row of refusals that has closed the gate: then the next one is of that row.
        fileprivate var isByRefusals = false
        /// The job that is kept in the worker to be the probe, so that no other one is.
        fileprivate var keptProbe: Int?
        /// Whether the probe is a look at a task.
        fileprivate(set) var isLooking = false
        /// The pause that was chosen last.
        package var pause: Duration { delay }
        /// What to do about it.
        package var remedy: String { cause?.remedy ?? reason.remedy }
    }

    /// How a submission has left the gate.
    package struct Left: Hashable, Sendable {
        /// What the submission means now that it is known what it was one of.
        package var outcome: SubmissionOutcome
        /// Whether the gate opened, closed, or closed for another reason.
        package var hasChanged: Bool
        /// Whether the job is to be kept in the worker as the probe: see `keepProbe`.
        package var mayKeepProbe = false

        package init(outcome: SubmissionOutcome, hasChanged: Bool, mayKeepProbe: Bool = false) {
            self.outcome = outcome
            self.hasChanged = hasChanged
            self.mayKeepProbe = mayKeepProbe
        }
    }

    /// A wait that the API asked for is held in the worker up to this.
    package static let longestHeldWait = RateLimit.longestInterval
    /// Jobs go back after this long in one go all the same: a delivery that is kept too long closes the channel.
    package static let longestHeldTotal = Duration.seconds(120)
    /// In a row, before an outcome of single jobs is taken for one of the service.
    private static let unreadableLimit = 3
    private static let unfamiliarLimit = 3
    private static let gatewayLimit = 5
    private static let silentLimit = 5

    private let minDelay: Duration
    private let maxDelay: Duration
    private var unreadable = 0
    private var gateway = 0
    /// Submissions without an answer since the last definite one; answers that say little are none.
    private var silent = 0
    private var unfamiliarJobs: Set<String> = []
    /// The number of the job that was kept last as the probe.
    private var lastKept = 0

    /// Nil while the service is not at fault.
    package private(set) var closure: Closure?
    /// Whether the fleet is paused; whatever else is wrong comes after that.
    package var isPaused = false

    /// Why no jobs are submitted; nil while they are.
    package var reason: GateReason? { isPaused ? .paused : closure?.reason }

    /// An open gate; the pause after a fault starts at `minDelay` and doubles up to `maxDelay`.
    package init(minDelay: Duration, maxDelay: Duration) {
        self.minDelay = minDelay
        self.maxDelay = max(minDelay, maxDelay)
    }

    /// Asks for a job that is ready to be submitted; `isKept` is the one that is kept as the probe.
    package mutating func enter(now: ContinuousClock.Instant, isKept: Bool = false) -> Answer {
        guard !isPaused else { return .giveBack }
        guard let closure else { return .go }
        guard !isKept else {
            guard !closure.isProbing else { return .wait(until: nil) }
            guard now >= closure.until else { return .wait(until: closure.until) }
            self.closure?.isProbing = true
            return .probe
        }
        guard closure.keptProbe == nil else { return closure.isHeld ? .wait(until: nil) : .giveBack }
        if now >= closure.until, !closure.isProbing {
            self.closure?.isProbing = true
            return .probe
        }
        guard closure.isHeld else { return .giveBack }
        return .wait(until: closure.isProbing ? nil : closure.until)
    }

    /// Closes as another replica has: true if the gate closed, or closed for another reason.
    package mutating func follow(
        _ reason: GateReason,
        for delay: Duration,
        isHeld: Bool,
        now: ContinuousClock.Instant
    ) -> Bool {
        let changed = closure?.reason != reason
        let delay = max(minDelay, delay)
        let kept = closure?.keptProbe
        closure = Closure(
            reason: reason,
            until: now + delay,
            isHeld: isHeld && delay <= Self.longestHeldWait,
            delay: delay,
            heldTotal: delay
        )
        closure?.isShared = true
        closure?.keptProbe = kept
        return changed
    }

    /// Opens as another replica has; false if it was open, or closed for a reason of its own.
    package mutating func followOpening() -> Bool {
        guard closure?.isShared == true else { return false }
        closure = nil
        return true
    }

    /// Notes that the others know of the closure.
    package mutating func markShared() {
        closure?.isShared = true
    }

    /// Waits once more: another replica is the one that tries.
    package mutating func postponeProbe(now: ContinuousClock.Instant) {
        guard let closed = closure else { return }
        handBackProbe()
        closure?.until = now + closed.delay
        closure?.heldTotal += closed.delay
        if closed.heldTotal > Self.longestHeldTotal { closure?.isHeld = false }
    }

    /// Lets a look at a task be the probe, if its moment has come and no job is at it; false if not.
    package mutating func beginLook(now: ContinuousClock.Instant) -> Bool {
        guard !isPaused, let closed = closure, now >= closed.until, !closed.isProbing, closed.keptProbe == nil else {
            return false
        }
        closure?.isProbing = true
        closure?.isLooking = true
        return true
    }

    /// Whether a look is the probe.
    package var isLooking: Bool { closure?.isLooking == true }

    /// Opens if it is closed for a reason that is found to be gone; true if it was.
    package mutating func open(from reason: GateReason) -> Bool {
        guard closure?.reason == reason else { return false }
        closure = nil
        return true
    }

    /// Whether a job is kept as the probe.
    package var isProbeKept: Bool { closure?.keptProbe != nil }

    /// Keeps a job in the worker as the probe, under a number; nil if one is kept already.
    package mutating func keepProbe() -> Int? {
        guard let closed = closure, closed.keptProbe == nil else { return nil }
        lastKept += 1
        closure?.keptProbe = lastKept
        return lastKept
    }

    /// Lets another job be the probe than the one that was kept under a number.
    package mutating func endKeptProbe(_ number: Int) {
        guard closure?.keptProbe == number else { return }
        closure?.keptProbe = nil
        closure?.isProbing = false
    }

    /// Lets another job be the probe: the one that was has submitted nothing.
    package mutating func handBackProbe() {
        closure?.isProbing = false
        closure?.isLooking = false
    }

    /// Notes how a submission ended.
    package mutating func leave(
        _ outcome: SubmissionOutcome,
        job: String,
        wasProbe: Bool,
        now: ContinuousClock.Instant
    ) -> Left {
        if wasProbe { handBackProbe() }
        // One more of the refusals that have closed the gate says nothing of its job: it goes back.
        if case .rejected(let rejection) = outcome, rejection.isUnfamiliar, closure?.isByRefusals == true {
            let fault = SubmissionOutcome.ServiceFault(reason: .endpoint, status: rejection.status)
            let changed = close(fault, wasProbe: wasProbe, now: now)
            return Left(outcome: .serviceFault(fault), hasChanged: changed)
        }
        var left = Left(outcome: outcome, hasChanged: false)
        if let fault = fault(in: outcome, job: job) {
            left.hasChanged = close(fault, wasProbe: wasProbe, now: now)
            // Until it opens: an endpoint that is not the API's may answer in several ways.
            if case .rejected = outcome { closure?.isByRefusals = true }
            if case .unknown(let doubt) = outcome { left.mayKeepProbe = doubt.isOfUnavailableService }
            return left
        }
        guard wasProbe, let closed = closure else { return left }
        // Silence says nothing good of the service: the next probe waits as after another fault.
        if case .unknown = outcome {
            left.hasChanged = close(.init(reason: closed.reason), wasProbe: true, now: now)
            return left
        }
        closure = nil
        left.hasChanged = true
        return left
    }

    /// The service's fault in an outcome, by itself or as the last of a row.
    private mutating func fault(in outcome: SubmissionOutcome, job: String) -> SubmissionOutcome.ServiceFault? {
        switch outcome {
        case .serviceFault(let fault):
            return fault
        case .unknown(let doubt) where doubt.isOfUnavailableService:
            (unreadable, unfamiliarJobs) = (0, [])
            return .init(reason: .unavailable, status: doubt.status, retryAfter: doubt.retryAfter)
        case .unknown(let doubt) where doubt.kind == .unreadable:
            (gateway, unfamiliarJobs) = (0, [])
            unreadable += 1
            return unreadable >= Self.unreadableLimit ? .init(reason: .contract, status: doubt.status) : nil
        case .unknown(let doubt) where doubt.kind == .gateway:
            (unreadable, unfamiliarJobs) = (0, [])
            gateway += 1
            return gateway >= Self.gatewayLimit
                ? .init(reason: .serverError, status: doubt.status, retryAfter: doubt.retryAfter) : nil
        case .rejected(let rejection) where rejection.isUnfamiliar:
            (unreadable, gateway, silent) = (0, 0, 0)
            unfamiliarJobs.insert(job)
            return unfamiliarJobs.count >= Self.unfamiliarLimit
                ? .init(reason: .endpoint, status: rejection.status) : nil
        case .unknown(let doubt):
            silent += 1
            return silent >= Self.silentLimit ? .init(reason: .noAnswer, status: doubt.status) : nil
        case .accepted, .rejected, .retry:
            (unreadable, gateway, silent, unfamiliarJobs) = (0, 0, 0, [])
            return nil
        }
    }

    private mutating func close(
        _ fault: SubmissionOutcome.ServiceFault,
        wasProbe: Bool,
        now: ContinuousClock.Instant
    ) -> Bool {
        let asked = max(fault.retryAfter ?? .zero, fault.leastDelay ?? .zero)
        guard var closed = closure else {
            let delay = max(minDelay, asked)
            let isHeld = fault.retryAfter != nil && delay <= Self.longestHeldWait
            closure = Closure(
                reason: fault.reason,
                until: now + delay,
                isHeld: isHeld,
                delay: delay,
                heldTotal: delay
            )
            closure?.cause = fault.cause
            return true
        }
        // A straggler that was sent before the gate closed: it may know of a longer wait, no more.
        guard wasProbe else {
            closed.until = max(closed.until, now + asked)
            // No job waits in the worker for as long as that.
            let mustGo = closed.isHeld && now + Self.longestHeldWait < closed.until
            if mustGo { closed.isHeld = false }
            closure = closed
            return mustGo
        }
        let changed = closed.reason != fault.reason || closed.cause != fault.cause
        closed.reason = fault.reason
        closed.cause = fault.cause
        // Told how long, there is nothing to guess.
        closed.delay = max(fault.retryAfter ?? min(maxDelay, closed.delay * 2), fault.leastDelay ?? .zero, minDelay)
        closed.heldTotal += closed.delay
        closed.isHeld =
            fault.retryAfter != nil && closed.delay <= Self.longestHeldWait
            && closed.heldTotal <= Self.longestHeldTotal
        closed.until = now + closed.delay
        closed.isShared = false
        closure = closed
        return changed
    }
}
