package import EditJob
import SharedValues

/// What is remembered of submissions, so that none is paid twice unseen.
///
/// An entry stands before the submission begins, and gets its verdict as soon as there is one. What stands there without
/// a verdict when no worker is at it any more may have been accepted.
package protocol SubmissionJournal: Sendable {
    /// What is known of earlier submissions of a job; if that allows another one, notes that it is about to be submitted.
    ///
    /// The entry is durable, as far as the store is, when this returns. Throws `JournalFault`; then nothing may be
    /// submitted.
    func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission
    /// Notes how the submission of a job ended. Throws `JournalFault`; the entry then stays without a verdict.
    func finish(_ id: String, _ end: JobEnd) async throws(JournalFault)
    /// Notes that the delivery which a job was refused with is acknowledged: what comes later under the id is another
    /// publication. Throws `JournalFault`; the refusal is then told to that one too, if it is delivered again.
    func acknowledged(_ id: String) async throws(JournalFault)
    /// Whether a delivery may have been submitted by a worker of which the store knows nothing; to be asked when it comes.
    ///
    /// With `awaitsVerdict` it is the copy of one that was under way elsewhere. From any thread, without waiting.
    func mark(wasDeliveredBefore: Bool, awaitsVerdict: Bool) -> DeliveryMark
    /// As `mark`, of a job that the broker has taken out of its queue, and that may have been delivered before.
    func doubt() -> DeliveryMark
    /// Whether a job may still be submitted: a store that others share may have lost meanwhile that it was begun, or know that
    /// the fleet is paused. Nil for a job of which nothing is remembered.
    ///
    /// From any thread, without waiting; to be asked right before the request is sent.
    func maySubmit(_ id: String?) -> Bool
    /// Whether an operator has cancelled a job, as far as the store was read: its end needs no request.
    ///
    /// From any thread, without waiting.
    func isCancelled(_ id: String) -> Bool
    /// Whether an acceptance is to be told by the worker whose delivery of the job is gone: no other worker can know of it, or
    /// who has the job meanwhile has told that its outcome is unknown.
    func mayTellLate(_ id: String) -> Bool
    /// Waits until the store can be asked; at once unless it has to be read first.
    func waitUntilReady() async
    /// Forgets what ended before a moment.
    func sweep(before moment: Int64) async throws(JournalFault)
    /// Ends the use of the store.
    func close() async
}

extension SubmissionJournal {
    package func mark(wasDeliveredBefore: Bool, awaitsVerdict: Bool) -> DeliveryMark {
        DeliveryMark(isInDoubt: wasDeliveredBefore)
    }

    package func doubt() -> DeliveryMark { DeliveryMark(isInDoubt: true) }

    package func maySubmit(_ id: String?) -> Bool { true }

    package func isCancelled(_ id: String) -> Bool { false }

    package func mayTellLate(_ id: String) -> Bool { true }

    package func waitUntilReady() async {}
}

/// What a store knew when a delivery came.
package struct DeliveryMark: Hashable, Sendable {
    /// Whether a worker may have submitted it of which the store knows nothing.
    package var isInDoubt: Bool
    /// How often a shared store had lost what it knew until then, if the delivery was one before.
    package var losses: Int?
    /// Messages that a shared store had read until then.
    package var reads: Int?

    package init(isInDoubt: Bool, losses: Int? = nil, reads: Int? = nil) {
        self.isInDoubt = isInDoubt
        self.losses = losses
        self.reads = reads
    }
}

/// A job that wants to be submitted.
package struct JournalRequest: Hashable, Sendable {
    package var id: String
    /// The digest of what would be submitted.
    package var digest: BodyDigest
    /// Counted submissions, this one included.
    package var attempts: Int
    /// Images that the job asks for at most.
    package var images = 1
    /// How often an operator has replayed the job.
    package var replay: Int64 = 0
    /// Whether that replay allows one more submission of a job that may have been charged.
    package var acceptsDoubleCharge = false
    /// Whether that replay is of a job which was accepted and whose task has ended without images that could be read.
    package var isOfEndedTask = false
    /// Whether an end that the job has is this delivery's too: it was delivered before, or waited for another copy.
    package var takesVerdict = false
    /// Whether a submission that began and never ended may be made again (`policy.noAnswer=retry`).
    package var retriesUnfinished = false
    /// Whether the job was delivered before, perhaps to a worker that submitted it and whose journal is another.
    package var mayBeSubmittedElsewhere = false
    /// See `DeliveryMark`; nil for a first delivery.
    package var lossesAtDelivery: Int?
    /// See `DeliveryMark`; nil if the delivery cannot have been taken back.
    package var readsAtDelivery: Int?
    /// Whether it only asks what is known of a job that the broker has taken out of its queue: the job does not begin, and no
    /// earlier delivery of it begins any more, as far as the store is shared.
    package var isQuestion = false
    /// The job that this one was made from by a correction, for the history.
    package var editedFrom: String?
    /// Whether the job has no id of its own: it cannot be recognised when it comes again, and nothing is remembered.
    package var isAnonymous = false

    /// A request for a first submission.
    package init(id: String, digest: BodyDigest, attempts: Int = 1) {
        self.id = id
        self.digest = digest
        self.attempts = attempts
    }
}

/// The journal lets no job begin.
package struct JournalFault: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: Hashable, Sendable {
        /// A store of this host cannot be read or written.
        case store
        /// The ledger does not answer.
        case ledger
        /// The images of the job do not fit what the fleet may submit in a period.
        case budget
    }

    /// What failed, where, and what to do.
    package let description: String
    package let kind: Kind

    package init(_ kind: Kind = .store, description: String) {
        self.kind = kind
        self.description = description
    }
}

/// What a submission's body is recognised by: the 128-bit FNV-1a hash, the same in every process and version.
///
/// Not cryptographic, and need not be: who forges a collision gets the answer to a job of their own.
/// Source: Fowler, Noll and Vo, draft-eastlake-fnv.
package struct BodyDigest: Hashable, Sendable {
    package let value: UInt128

    /// The digest of a body.
    package init(_ body: [UInt8]) {
        var hash: UInt128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d
        for byte in body {
            hash ^= UInt128(byte)
            hash &*= 0x0000_0000_0100_0000_0000_0000_0000_013B
        }
        value = hash
    }

    /// Takes a digest that was stored.
    package init(value: UInt128) {
        self.value = value
    }
}
