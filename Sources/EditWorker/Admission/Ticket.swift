package import SeedreamAPI

/// Leave to submit one job.
///
/// The gate has it back as soon as it is dropped: if it is a probe, and nothing was submitted, the next job may be one.
package struct Ticket: ~Copyable {
    private let admission: Admission
    /// Whether the outcome of this submission decides for all.
    package let isProbe: Bool
    private var isUsed = false
    /// Until when a start of the fleet may be used.
    private var startBefore: ContinuousClock.Instant?

    init(_ admission: Admission, isProbe: Bool) {
        self.admission = admission
        self.isProbe = isProbe
    }

    deinit {
        if isProbe, !isUsed { admission.handBackProbe() }
    }

    /// Waits for a start of the fleet, if starts are limited; false if the gate has closed or the drain has begun.
    mutating func waitForFleet() async -> Bool {
        startBefore = await admission.fleetStart(isProbe: isProbe)
        return startBefore != nil
    }

    /// Waits until the rate limit allows a start at this very moment, and counts it; false if the gate has closed or the
    /// drain has begun since the ticket was given.
    ///
    /// To be called right before the submission: what happens in between takes its time, and the API counts the real starts.
    package mutating func start() async -> Bool {
        if admission.isOpen { return true }
        guard await admission.start(isProbe: isProbe) else { return false }
        // The start that the fleet gave may have passed while the journal was written.
        while let end = startBefore, .now > end {
            guard await waitForFleet() else { return false }
        }
        return true
    }

    /// Says how the submission ended; true if the gate is closed and holds jobs in the worker.
    package mutating func leave(_ outcome: SubmissionOutcome, job: String) -> Bool {
        isUsed = true
        admission.leave(outcome, job: job, isProbe: isProbe)
        // Only the end of a submission at which the service was at fault may hold the job.
        return outcome.isServiceFault && admission.closure?.isHeld == true
    }
}
