import EditWorker
import RabbitMQ
import Settings
import SharedValues

extension WorkerSettings {
    /// The names of the queues.
    var queues: JobQueues {
        // Also if this worker lets no new task be followed: those of others are promised a look.
        JobQueues(name: queueName, retryDelays: retryDelays, followDelays: followDelays)
    }

    /// All queues that a worker with these settings needs.
    var topology: Topology { topology(queueTopology) }

    /// As `topology`, in another mode.
    func topology(_ mode: TopologyMode) -> Topology {
        Topology(
            queues: queues,
            type: queueType,
            mode: mode,
            ledgerRetention: journalStore == .ledger ? journalRetention : nil,
            exchange: jobsExchange.map { ByteString($0) }
        )
    }
}

extension WorkerSettings {
    /// The settings that all replicas of a queue should have alike, by their keys.
    var sharedByReplicas: [String: String] {
        [
            "journal.retention": DurationText.text(journalRetention), "policy.noAnswer": noAnswer.rawValue,
            "policy.gatewayError": gatewayError.rawValue, "fleet.rateLimit": fleetRateLimit?.text ?? "none",
            "fleet.budget": fleetBudget?.text ?? "none",
            "journal.writers": journalWriters.map(\.text).joined(separator: ","),
        ]
    }
}
