package import EditJob
package import Journal

/// A moment as a replica sees it: how long things take by a clock that is never set, and the date for what is told to others.
package struct LedgerMoment: Hashable, Sendable {
    package var monotonic: ContinuousClock.Instant
    /// In milliseconds since 1970.
    package var wall: Int64

    package init(monotonic: ContinuousClock.Instant, wall: Int64) {
        self.monotonic = monotonic
        self.wall = wall
    }
}

/// Something that happens to a replica: the only way in which it learns anything.
package enum LedgerEvent: Hashable, Sendable {
    /// Identifies a waiter for an answer; the shell makes a new one each time.
    package typealias Waiter = Int

    /// The job queue as the broker tells it.
    package enum JobQueue: Hashable, Sendable {
        /// There is none, so that nothing can come back.
        case missing
        /// `ready` messages can be delivered, and `consumers` may hold others.
        case seen(ready: Int, consumers: Int)
        /// The user may not ask.
        case hidden
    }

    // MARK: The connection; what comes of one that was replaced counts for nothing.

    /// There is a connection, the stream is there, and this is the connection's user if the broker has said so.
    case connected(link: Int, user: String?)
    /// The answer to `needsName`: a name that no other process has.
    case named(String)
    /// The answer to `inspectJobs`.
    case sawJobs(JobQueue, link: Int)
    /// The answer to `look`: the message that stands at the offset now, or the next one after it.
    case saw(LedgerMessage.ID?, at: Int64?, link: Int)
    /// The answer to `lookFirst`: where the stream begins.
    case sawFirst(Int64, link: Int)
    /// The answer to `consume`: messages will come, if there are any.
    case reads(link: Int)
    /// A message of the stream; without its body if that was too large to be kept.
    case read([UInt8]?, user: String?, at: Int64, link: Int)
    /// The broker has a message.
    case confirmed(Int64, link: Int)
    /// The connection ended; `isSilent` if the broker did not answer.
    case disconnected(link: Int, isSilent: Bool)

    // MARK: The replica's own work

    /// Now or later, after the jobs that are ready to run: `flushSoon` has asked for it.
    case flush
    /// Time passes; why the gate is closed, and whether the broker has said that it does not read for now.
    case tick(gate: String?, isBlocked: Bool)
    /// A job wants to be submitted.
    case wants(JournalRequest, Waiter)
    /// The answer to `fetch`; nil if the record is gone, or cannot be had for now.
    case fetched(Acceptance?, isAnswer: Bool, Waiter)
    /// There is a record to write; the waiter, if any, waits until all others can know of it.
    case writes(LedgerRecord, Waiter?)
    /// A waiter waits until submissions can be let through, or the ledger is closed.
    case waitsForReady(Waiter)
    /// Who waits does not want to any more.
    case givenUp(Waiter)
    /// A delivery has come.
    case delivered(wasBefore: Bool)
    /// Jobs wait for a start under the fleet's rate limit; answered by `turn`.
    case wantsStart(waiting: Int)
    /// The account takes jobs again.
    case opened
    /// This replica would be the one that tries whether the account takes jobs again.
    case wantsProbe(Waiter)
    /// The replica ends in good order.
    case closes
}

/// What is to be done about it.
package enum LedgerEffect: Hashable, Sendable {
    package typealias Waiter = LedgerEvent.Waiter

    /// What a waiter has waited for.
    package enum Answer: Hashable, Sendable {
        case job(PriorSubmission)
        case fault(JournalFault)
        /// It is written, or there is nothing to wait for any more.
        case done
        case probe(Bool)
    }

    /// Asks for the job queue's messages and consumers; `sawJobs`.
    case inspectJobs
    /// Publishes the first message on a connection; `confirmed`.
    case greet(number: Int64, body: [UInt8])
    /// Looks at what stands at an offset; `saw`.
    case look(at: Int64)
    /// Looks where the stream begins; `sawFirst`.
    case lookFirst
    /// Reads the stream from an offset on, or nil for all of it; `reads`, and then `read`, again and again.
    case consume(from: Int64?)
    /// Publishes a message; `confirmed`.
    case publish(number: Int64?, body: [UInt8])
    /// Asks for `flush` after the jobs that are ready to run, so that their records go out together.
    case flushSoon
    /// Reads the acceptance of a job at an offset; `fetched`.
    case fetch(id: String, at: Int64, Waiter)
    case answer(Waiter, Answer)
    /// What `wantsStart` has asked.
    case turn(FleetSlots.Turn)
    /// Something that the worker has to know of the fleet.
    case tell(FleetChange)
    /// Gives the connection up.
    case leave
    /// Asks for another name, since another process writes under this one; `named`.
    case needsName

    // MARK: For those who count

    /// Records were read, by kind.
    case read([String: Int])
    /// How long after its publication an own message was read back.
    case lagged(Duration)
    /// The count of remembered jobs.
    case remembers(Int)
    /// How many replicas live, and how many images are left of the budget, if there is one.
    case knowsFleet(replicas: Int, imagesLeft: Int?)
    /// A newer version writes the ledger.
    case isOutdated
    /// Nothing is submitted before replicas were heard that may know more, for `atMost` at most.
    case awaitsOthers(atMost: Duration)
    /// Records of a user that does not count were read for the first time.
    case readStranger(user: String, isAtStart: Bool)
}
