/// The metrics of a worker: names that dashboards and alerts rely on.
package enum WorkerMetric: String, CaseIterable, Sendable {
    case jobsReceived = "seedream_jobs_received_total"
    case jobsSettled = "seedream_jobs_settled_total"
    case jobFailures = "seedream_job_failures_total"
    case jobsAnonymous = "seedream_jobs_anonymous_total"
    case jobsInFlight = "seedream_jobs_in_flight"
    case jobDuration = "seedream_job_duration_seconds"
    case jobAge = "seedream_job_age_seconds"
    case requests = "seedream_api_requests_total"
    case requestDuration = "seedream_api_request_duration_seconds"
    case replies = "seedream_replies_total"
    case gateOpen = "seedream_gate_open"
    case gateClosures = "seedream_gate_closures_total"
    case connected = "seedream_amqp_connected"
    case blocked = "seedream_amqp_blocked"
    case reconnects = "seedream_amqp_reconnects_total"
    case ledgerRecords = "seedream_ledger_records_total"
    case ledgerLag = "seedream_ledger_lag_seconds"
    case ledgerEntries = "seedream_ledger_entries"
    case tasksFollowed = "seedream_tasks_followed_total"
    case taskDuration = "seedream_task_duration_seconds"
    case fleetReplicas = "seedream_fleet_replicas"
    case fleetBudget = "seedream_fleet_budget_images_remaining"
    case fleetPaused = "seedream_fleet_paused"
    case logLinesDropped = "seedream_log_lines_dropped_total"
    case buildInfo = "seedream_build_info"

    /// How a metric's values are to be read.
    package enum Kind: Hashable, Sendable {
        case counter
        case gauge
        /// Seconds, by these upper bounds.
        case histogram([Double])
    }

    /// A sentence about it.
    package var help: String {
        switch self {
        case .jobsReceived: "Deliveries taken from the job queue."
        case .jobsSettled: "Deliveries that were settled and acknowledged, by result."
        case .jobFailures: "Jobs that failed, by code."
        case .jobsAnonymous: "Jobs without a message_id, which cannot be recognised when they come again."
        case .jobsInFlight: "Deliveries that the worker is working on."
        case .jobDuration: "Seconds from the delivery of a job to its acknowledgement."
        case .jobAge: "Seconds from the timestamp of a job to its acknowledgement."
        case .requests:
            "Requests to the API, by operation (submit, or look for a look at a task) and HTTP status; none if no answer came."
        case .requestDuration:
            "Seconds from the start of a request to the last byte of its answer, by operation and status."
        case .replies: "Replies: confirmed, returned because their queue is missing, or failed."
        case .gateOpen: "1 while jobs are submitted, 0 while the gate is closed."
        case .gateClosures: "Closures of the gate, by reason."
        case .connected: "1 while the connection to the broker is open."
        case .blocked: "1 while the broker blocks the connection from publishing."
        case .reconnects: "Connections to the broker after the first."
        case .ledgerRecords: "Records of the ledger that were read, of all replicas, by kind."
        case .ledgerLag: "Seconds from the publication of this replica's last ledger message to its being read back."
        case .ledgerEntries: "Jobs that the ledger remembers."
        case .tasksFollowed: "Tasks that were followed to their end, by result."
        case .taskDuration: "Seconds from the submission of a task to its images."
        case .fleetReplicas: "Replicas that live, as this one sees the fleet."
        case .fleetBudget: "Images that the fleet may still submit within the time of fleet.budget."
        case .fleetPaused: "1 while the fleet is paused."
        case .logLinesDropped: "Log lines that were dropped because the log was not read in time."
        case .buildInfo: "1, with the version of the program."
        }
    }

    /// How its values are to be read.
    package var kind: Kind {
        switch self {
        case .jobsReceived, .jobsSettled, .jobFailures, .jobsAnonymous, .requests, .replies, .gateClosures, .reconnects,
            .ledgerRecords, .tasksFollowed, .logLinesDropped:
            .counter
        case .jobsInFlight, .gateOpen, .connected, .blocked, .ledgerLag, .ledgerEntries, .fleetReplicas,
            .fleetBudget, .fleetPaused, .buildInfo:
            .gauge
        case .jobDuration, .requestDuration:
            .histogram([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120])
        case .taskDuration: .histogram([1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 900])
        // A job may have waited for a day.
        case .jobAge: .histogram([0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400])
        }
    }
}
