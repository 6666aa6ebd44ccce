package import SeedreamAPI

/// Leave to submit one job.
///
/// The gate has it back as soon as it is dropped: if it is a probe, and nothing was submitted, the next job may be one.
package struct Ticket: ~Copyable {
    private let gate: Gate
    /// Whether the outcome of this submission decides for all.
    package let isProbe: Bool
    private var isUsed = false
    /// Until when a start of the fleet may be used.
    private var startBefore: ContinuousClock.Instant?
    /// What the submission goes over; nil before `prepare` and after `start`.
    private var connection: Reservation?

    init(_ gate: Gate, isProbe: Bool) {
        self.gate = gate
        self.isProbe = isProbe
    }

    deinit {
        if isProbe, !isUsed { gate.handBackProbe() }
    }

    /// Gets ready for a start where starts are limited: a connection, and then a start of the fleet, which is over in a moment;
    /// false if the gate has closed or the drain has begun.
    package mutating func prepare(_ reserve: () async -> Reservation) async -> Bool {
        connection = gate.countsStarts ? await reserve() : Reservation()
        guard connection?.failure == nil else { return true }
        return await waitForFleet()
    }

    private mutating func waitForFleet() async -> Bool {
        startBefore = await gate.fleetStart(isProbe: isProbe)
        return startBefore != nil
    }

    /// Starts at the moment that the limits allow, over a connection where the moment counts, if the job still
    /// `mayGo`.
    ///
    /// To be called right before the submission: what happens in between takes its time, and the API counts the real starts.
    package mutating func start(
        reserving reserve: () async -> Reservation,
        _ mayGo: () -> Bool
    ) async -> StartAnswer {
        var connection = self.connection.take() ?? Reservation()
        // Twice at the most: a start that waits for longer than a connection is kept would never have one.
        for _ in 0..<2 {
            guard connection.failure == nil else { break }
            guard await takeTurn() else { return .gateClosed }
            if await connection.isUsable() { break }
            connection = await reserve()
        }
        return mayGo() ? .go(Start(connection)) : .refused
    }

    /// Waits until the rate limit allows a start at this very moment, and counts it; false if the gate has closed or the
    /// drain has begun since the ticket was given.
    private mutating func takeTurn() async -> Bool {
        if gate.isOpen { return true }
        guard await gate.start(isProbe: isProbe) else { return false }
        // The start that the fleet gave may have passed while the journal was written.
        while let end = startBefore, .now > end {
            guard await waitForFleet() else { return false }
        }
        return true
    }

    /// Says how the submission ended; what it means for the job now.
    package mutating func leave(_ outcome: SubmissionOutcome, job: String) -> Leave {
        isUsed = true
        let left = gate.leave(outcome, job: job, isProbe: isProbe)
        // Only the end of a submission at which the service was at fault may hold the job.
        let isHeld = left.outcome.isServiceFault && gate.closure?.isHeld == true
        return Leave(outcome: left.outcome, isHeld: isHeld, mayKeepProbe: left.mayKeepProbe)
    }

    /// What becomes of a job at the gate after its submission.
    package struct Leave: Hashable, Sendable {
        /// What the submission means, now that it is known whether it was one of a row.
        package let outcome: SubmissionOutcome
        /// Whether the gate is closed and holds jobs in the worker.
        package let isHeld: Bool
        /// Whether the job may be kept as the probe: see `Gate.keepProbe`.
        package let mayKeepProbe: Bool
    }
}

/// Leave to send one paid request, over the connection that it holds.
///
/// Only `Ticket.start` gives it, after all last checks: without it no request can be sent.
package struct Start: ~Copyable {
    private let connection: Reservation

    fileprivate init(_ connection: consuming Reservation) {
        self.connection = connection
    }

    consuming func takeConnection() -> Reservation { connection }
}

/// What a ticket says to a job that is ready.
package enum StartAnswer: ~Copyable {
    case go(Start)
    /// The gate has closed or the drain has begun since the ticket was given: the job may ask it again.
    case gateClosed
    /// The job must not be submitted now: another worker may have it, or the fleet is paused.
    case refused
}

/// The place of the job that is kept in the worker as the probe; another one may be the probe once it is dropped.
package struct KeptProbe: ~Copyable {
    /// A delivery that is kept much longer closes the channel: the broker's `consumer_timeout` is half an hour.
    static let longest = Duration.seconds(600)

    private let gate: Gate
    private let number: Int
    /// When the job must go.
    let end = ContinuousClock.now + longest

    /// Keeps a job as the probe; nil if one is kept already.
    init?(_ gate: Gate) {
        guard let number = gate.keepProbe() else { return nil }
        self.gate = gate
        self.number = number
    }

    deinit {
        gate.endKeptProbe(number)
    }
}
