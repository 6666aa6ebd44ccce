import Ledger
package import Logging
import Telemetry

/// Counts and logs what a worker hears of its ledger.
package struct LedgerObserver: LedgerJournal.Observer {
    private let metrics: WorkerMetrics
    private let logger: Logger

    package init(metrics: WorkerMetrics, logger: Logger) {
        self.metrics = metrics
        self.logger = logger
    }

    package func read(_ kinds: [String: Int]) { metrics.read(kinds) }

    package func lagged(_ lag: Duration) { metrics.lagged(lag) }

    package func remembers(_ entries: Int) { metrics.remembers(entries) }

    package func knowsFleet(replicas: Int, imagesLeft: Int?) {
        metrics.knowsFleet(replicas: replicas, imagesLeft: imagesLeft)
    }

    package func isOutdated() {
        logger.log(
            .error,
            "a newer version writes this ledger; nothing is submitted any more",
            [.remedy: "upgrade this replica"]
        )
    }

    package func awaitsOthers(atMost patience: Duration) {
        logger.log(
            .info,
            "the ledger does not say what may come back; other replicas are heard before anything is submitted",
            [.wait: "\(patience)"]
        )
    }

    package func metNamesake() {
        logger.log(
            .error,
            "another process writes into the ledger under this replica's name; this one begins anew under another",
            [.remedy: "start a worker for each copy of a machine, and do not copy one that runs"]
        )
    }

    package func readStranger(_ user: String, isAtStart: Bool) {
        logger.log(
            isAtStart ? .error : .warning,
            isAtStart
                ? "workers of another user write this ledger; nothing is submitted beside them"
                : "a user whose records do not count writes into the ledger",
            [
                .user: user.isEmpty ? "-" : user,
                .remedy: "add the user to journal.writers, or take its right to write to the ledger away",
            ]
        )
    }
}
