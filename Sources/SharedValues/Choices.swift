/// The kinds of queue that the service can use.
package enum QueueType: String, Sendable, CaseIterable {
    case quorum
    case classic
}

/// Who makes the queues.
package enum TopologyMode: String, Sendable, CaseIterable {
    /// The worker declares them.
    case declare
    /// An operator does; the worker only looks whether they are there.
    case verify
}

/// What to do with a submission whose outcome is not known.
package enum DoubtPolicy: String, Sendable, CaseIterable {
    /// A person decides: the job goes to `Q.unknown`.
    case park
    /// It is submitted again, and may be paid twice; the reply says so.
    case retry
}

/// Which tasks are followed to their images.
package enum FollowChoice: String, Sendable, CaseIterable {
    /// Those of jobs with the header `x-follow: true`.
    case asked
    /// Those of all jobs.
    case all
    case none
}
