/// What the replicas know together beside their jobs: a pause, an account that takes nothing, who lives, what was spent.
///
/// Part of the fold: see `LedgerState`.
package struct FleetState: Hashable, Sendable {
    /// An operator wants no more submissions.
    package struct Pause: Hashable, Sendable {
        package let reason: String
        /// Who said so, for people.
        package let writer: String
        /// In milliseconds since 1970.
        package let at: Int64
        /// The message that says so, by which an order to go on names it.
        package let message: LedgerMessage.ID
    }

    /// The account takes nothing, as one replica has found.
    package struct Closure: Hashable, Sendable {
        package let reason: String
        package let milliseconds: Int64
        /// Whether jobs wait in the workers instead of going back.
        package let isHeld: Bool
        /// `HOST:PID` of the replica, for people.
        package let writer: String
        /// In milliseconds since 1970.
        package let at: Int64
        /// The message that says so, by which the closure is known.
        package let message: LedgerMessage.ID
        /// The message of the replica that tries whether it is over.
        package fileprivate(set) var probe: LedgerMessage.ID?
    }

    /// A replica that has not said goodbye.
    package struct Member: Hashable, Sendable {
        package let writer: String
        package fileprivate(set) var greeting: LedgerGreeting?
        package fileprivate(set) var report: LedgerReport?
        /// When it last wrote, in milliseconds since 1970, by its own clock; for people.
        package fileprivate(set) var lastSeen: Int64
        /// The same as the ledger's messages tell the date.
        fileprivate var heardAt: Int64
    }

    /// A replica that was not heard of for a day is forgotten.
    private static let longestSilence: Int64 = 86_400_000

    package private(set) var pause: Pause?
    /// Whether the last order that was read was to go on.
    package private(set) var wasResumed = false
    package private(set) var closure: Closure?
    package private(set) var members: [String: Member] = [:]
    /// What all replicas take for the date.
    private(set) var clock = FleetClock()

    package init() {}

    /// Applies all records of a message; for who only looks at the fleet.
    package mutating func read(_ message: LedgerMessage) {
        heard(from: message)
        for record in message.records { apply(record, of: message) }
    }

    /// Notes that the sender is alive; called once per message, before its records are applied.
    ///
    /// Returns how the date has leapt.
    @discardableResult
    mutating func heard(from message: LedgerMessage) -> FleetClock.Move? {
        let move = clock.read(message)
        if let move { members = members.mapValues { $0.following(move) } }
        if let last = members[message.replica]?.lastSeen {
            members[message.replica]?.lastSeen = max(last, message.at)
            members[message.replica]?.heardAt = clock.now ?? message.at
        }
        return move
    }

    /// Applies a record; those about jobs change nothing here.
    mutating func apply(_ record: LedgerRecord, of message: LedgerMessage) {
        let date = clock.now ?? message.at
        var new: Member { Member(writer: message.writer, lastSeen: message.at, heardAt: date) }
        switch record {
        case .hello(let greeting):
            members[message.replica, default: new].greeting = greeting
            members = members.filter { date - $0.value.heardAt < Self.longestSilence }
        case .alive(let report): members[message.replica, default: new].report = report
        case .bye: members[message.replica] = nil
        case .pause(let reason):
            pause = Pause(reason: reason, writer: message.writer, at: message.at, message: message.id)
            wasResumed = false
        case .resume(let ended):
            // One that was sent to a frozen node ends no pause that came after it.
            if let ended, let pause, pause.message != ended { return }
            pause = nil
            wasResumed = true
        case .closed(let reason, let milliseconds, let isHeld):
            closure = Closure(
                reason: reason,
                milliseconds: milliseconds,
                isHeld: isHeld,
                writer: message.writer,
                at: message.at,
                message: message.id
            )
        case .probe(let closed, let after):
            guard closure?.message == closed, closure?.probe == after else { return }
            closure?.probe = message.id
        case .opened(let closed): if closure?.message == closed { closure = nil }
        case .begin, .end, .settled, .abandon, .withdrawn, .cancel, .lift, .gap, .known, .slots, .followed, .unknown:
            break
        }
    }

    /// Whether another replica was heard of within `silence` milliseconds before the last message, and did not end in good order.
    func hasOthers(than name: String, within silence: Int64) -> Bool {
        let date = clock.now ?? 0
        return members.contains { $0.key != name && date - $0.value.heardAt < silence }
    }

    /// Replicas that were heard of within `silence` milliseconds before a moment.
    package func alive(at now: Int64, within silence: Int64 = 90_000) -> Int {
        members.values.count { now - $0.lastSeen < silence }
    }
}

extension FleetState.Member {
    fileprivate func following(_ move: FleetClock.Move) -> Self {
        var member = self
        member.heardAt = move.applied(to: heardAt)
        return member
    }
}
