import DequeModule
package import SharedValues

/// The starts that all replicas share under one rate limit, as one of them sees it; no clock has to agree with another.
///
/// The stream gives every start a number: its slot. Slot `i` may be used once the period has passed since slot `i - count`
/// may have been used last. Each replica reckons two moments for every slot by its own monotonic clock: `due`, from when on
/// it may use it, and `earliest`, before which no other can take it to be due, because none reads a record before it is
/// written. A slot is used from `due` on and well before `earliest + margin`, or it is lost. So whoever uses slot
/// `i - count` does so at most `margin` after the moment from which everybody reckons, and slot `i` is due `period + margin`
/// after that: between the two lies at least the period, however late anybody reads anything. Delays lose slots, and never
/// add one.
package struct FleetSlots: Hashable, Sendable {
    private struct Slot: Hashable, Sendable {
        let due: ContinuousClock.Instant
        /// Nil as long as nothing of this replica stands before it in the stream.
        let earliest: ContinuousClock.Instant?
    }

    /// What to do with a job that wants to start.
    package enum Turn: Hashable, Sendable {
        /// Start before that moment: the slot is used up.
        case start(before: ContinuousClock.Instant)
        /// Ask again at that moment.
        case wait(until: ContinuousClock.Instant)
        /// Ask for this many slots, and again once they were read back.
        case ask(Int)
    }

    /// How differently the replicas may read the same record without losing slots: of the period it costs a twentieth, but
    /// of a short one more.
    private let margin: Duration
    /// What is left of the margin for how differently long two requests take to the API.
    private let travel: Duration
    /// How long before its moment a slot is asked for: some round trips, and well within the margin, since `earliest` may be
    /// no later than the question.
    private let horizon: Duration

    private let limit: RateLimit
    /// The last `limit.count` slots of all replicas, oldest first.
    private var recent: Deque<Slot> = []
    /// Slots of this replica that are not used yet.
    private var own: Deque<Slot> = []
    /// When the last own message that was read back was published: no replica has read what stands behind it before.
    private var published: ContinuousClock.Instant?
    private var isAsking = false

    package init(_ limit: RateLimit) {
        self.limit = limit
        margin = max(.milliseconds(100), min(.milliseconds(500), limit.period / 20))
        travel = margin * 2 / 5
        horizon = (margin - travel) / 3
    }

    /// At once a replica asks for no more than a tenth, so that the others have theirs and a killed one loses few.
    private var most: Int { max(1, limit.count / 10) }

    /// Notes that an own message was read back which was published at that moment.
    package mutating func readOwnMessage(publishedAt moment: ContinuousClock.Instant) {
        published = max(published ?? moment, moment)
    }

    /// Notes that `count` slots were given to a replica; for own ones `readOwnMessage` comes first.
    ///
    /// What is read to catch up was given away earlier, at an unknown time: those slots are taken to be used within a period
    /// from now, and own ones among them are lost.
    package mutating func readSlots(
        _ count: Int,
        isOwn: Bool,
        isCatchingUp: Bool = false,
        now: ContinuousClock.Instant
    ) {
        if isOwn { isAsking = false }
        // More than that are no use to anybody, and a hostile record has any number.
        for _ in 0..<min(max(0, count), limit.count) {
            var slot = next(now: now)
            if isCatchingUp { slot = Slot(due: min(slot.due, now + limit.period + margin), earliest: nil) }
            if recent.count == limit.count { recent.removeFirst() }
            recent.append(slot)
            if isOwn, !isCatchingUp { own.append(slot) }
        }
    }

    /// The next slot, if it were given away now.
    private func next(now: ContinuousClock.Instant) -> Slot {
        guard recent.count == limit.count, let before = recent.first else {
            return Slot(due: now, earliest: published)
        }
        let step = limit.period + margin
        let reckoned = before.earliest.map { $0 + step }
        return Slot(due: max(now, before.due + step), earliest: published.map { max($0, reckoned ?? $0) })
    }

    /// Whether a job may start now; `waiting` want to.
    package mutating func turn(waiting: Int, now: ContinuousClock.Instant) -> Turn {
        while let slot = own.first {
            guard slot.due <= now else { break }
            own.removeFirst()
            guard let end = slot.earliest.map({ $0 + margin - travel }), now <= end else { continue }
            return .start(before: end)
        }
        if !isAsking, own.count < waiting {
            let moment = next(now: now).due - horizon
            if moment <= now {
                isAsking = true
                return .ask(min(most, waiting - own.count))
            }
            return .wait(until: min(moment, own.first?.due ?? moment))
        }
        // What was asked for wakes the waiters; the rest is for a broker that does not answer.
        return .wait(until: own.first?.due ?? now + .seconds(1))
    }

    /// Takes all slots for used just now: what says when they were is lost.
    package mutating func block(now: ContinuousClock.Instant) {
        own = []
        readSlots(limit.count, isOwn: false, isCatchingUp: true, now: now)
    }

    /// What was asked for may never be read: it can be asked for again.
    package mutating func forgetQuestion() {
        isAsking = false
    }

    /// The share of the last period that is used, for people: slots that were due within it.
    package func used(now: ContinuousClock.Instant) -> Int {
        recent.count { $0.due <= now && $0.due > now - limit.period }
    }
}
