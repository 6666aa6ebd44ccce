import DequeModule

/// What the replicas know together beside their jobs: a pause, an account that takes nothing, who lives, what was spent.
///
/// Part of the fold: see `LedgerState`.
package struct FleetState: Sendable {
    /// Somebody wants no more submissions.
    package struct Pause: Hashable, Sendable {
        package let reason: String
        /// Who said so, for people.
        package let writer: String
        /// In milliseconds since 1970.
        package let at: Int64
    }

    /// The account takes nothing, as one replica has found.
    package struct Closure: Hashable, Sendable {
        package let reason: String
        package let milliseconds: Int64
        /// Whether jobs wait in the workers instead of going back.
        package let isHeld: Bool
        package let replica: String
        /// Where the record stands, by which the closure is known.
        package let offset: Int64
        /// Who tries whether it is over, and where that record stands.
        package fileprivate(set) var probe: LedgerState.Holder?
    }

    /// A replica that has not said goodbye.
    package struct Member: Hashable, Sendable {
        package let writer: String
        package fileprivate(set) var greeting: LedgerGreeting?
        package fileprivate(set) var report: LedgerReport?
        /// When it last wrote, in milliseconds since 1970.
        package fileprivate(set) var lastSeen: Int64
    }

    /// A replica that was not heard of for so long is forgotten: a day.
    private static let longestSilence: Int64 = 86_400_000

    package private(set) var pause: Pause?
    /// Whether the last order that was read was to go on.
    package private(set) var wasResumed = false
    package private(set) var closure: Closure?
    package private(set) var members: [String: Member] = [:]

    package init() {}

    /// Applies all records of a message; for who only looks at the fleet.
    package mutating func read(_ message: LedgerMessage, at offset: Int64) {
        heard(from: message)
        for record in message.records { apply(record, of: message, at: offset) }
    }

    /// Notes that the sender is alive; called once per message, before its records are applied.
    mutating func heard(from message: LedgerMessage) {
        guard let last = members[message.replica]?.lastSeen, last < message.at else { return }
        members[message.replica]?.lastSeen = message.at
    }

    /// Applies a record; those about jobs change nothing here.
    mutating func apply(_ record: LedgerRecord, of message: LedgerMessage, at offset: Int64) {
        var new: Member { Member(writer: message.writer, lastSeen: message.at) }
        switch record {
        case .hello(let greeting):
            members[message.replica, default: new].greeting = greeting
            members = members.filter { message.at - $0.value.lastSeen < Self.longestSilence }
        case .alive(let report): members[message.replica, default: new].report = report
        case .bye: members[message.replica] = nil
        case .pause(let reason):
            pause = Pause(reason: reason, writer: message.writer, at: message.at)
            wasResumed = false
        case .resume:
            pause = nil
            wasResumed = true
        case .closed(let reason, let milliseconds, let isHeld):
            closure = Closure(
                reason: reason,
                milliseconds: milliseconds,
                isHeld: isHeld,
                replica: message.replica,
                offset: offset
            )
        case .probe(let closed, let after):
            guard closure?.offset == closed, closure?.probe?.offset == after else { return }
            closure?.probe = LedgerState.Holder(replica: message.replica, offset: offset)
        case .opened(let closed): if closure?.offset == closed { closure = nil }
        case .begin, .end, .settled, .abandon, .born, .known, .slots, .followed, .unknown: break
        }
    }

    /// Replicas that were heard of within so many milliseconds before a moment.
    package func alive(at now: Int64, within silence: Int64 = 90_000) -> Int {
        members.values.count { now - $0.lastSeen < silence }
    }
}

/// The images that the fleet may still have submitted within a time: a sum over the submissions that were, or may have
/// been, accepted.
struct FleetBudget: Sendable {
    let images: Int
    /// In milliseconds.
    let period: Int64
    private var running: [String: (at: Int64, images: Int)] = [:]
    /// Ended, nearly in the order of their beginning.
    private var spent: Deque<(at: Int64, images: Int)> = []
    private var sum = 0

    init(images: Int, period: Int64) {
        self.images = images
        self.period = period
    }

    /// Images that count at a moment, in milliseconds since 1970.
    func used(at now: Int64) -> Int {
        let old = spent.lazy.prefix { now - $0.at >= period }.reduce(0) { $0 + $1.images }
        return sum - old + running.values.reduce(0) { now - $1.at < period ? $0 + $1.images : $0 }
    }

    mutating func begin(_ id: String, _ images: Int, at now: Int64) {
        // One that was abandoned may have been accepted.
        end(id, isFree: false)
        running[id] = (now, images)
        while let first = spent.first, now - first.at >= period {
            sum -= first.images
            spent.removeFirst()
        }
    }

    /// A definite no gives the images back.
    mutating func end(_ id: String, isFree: Bool) {
        guard let ended = running.removeValue(forKey: id), !isFree else { return }
        spent.append(ended)
        sum += ended.images
    }
}
