package import Journal
package import Logging
import SeedreamAPI
import SharedValues
import Telemetry

/// Lets the journal forget what is older than its retention, in the background.
package struct JournalSweeper: Sendable {
    /// How often; a sweep is short, and an entry may well stand a minute longer.
    private static let interval = Duration.seconds(60)

    private let journal: any SubmissionJournal
    private let retention: Duration
    private let gate: Gate
    private let logger: Logger

    /// A sweeper that forgets what ended longer ago than `retention`, and closes the gate where the journal is broken.
    package init(journal: any SubmissionJournal, retention: Duration, gate: Gate, logger: Logger) {
        self.journal = journal
        self.retention = retention
        self.gate = gate
        self.logger = logger
    }

    /// Sweeps until its task is cancelled.
    package func run() async {
        while !Task.isCancelled {
            do throws(JournalFault) {
                try await journal.sweep(before: Timestamp.now.milliseconds - retention.wholeMilliseconds)
            } catch {
                // Known before the first job comes: the first sweep opens the store.
                logger.log(.error, "the journal cannot be used", [.error: error.description])
                gate.report(.journal)
            }
            try? await Task.sleep(for: Self.interval)
        }
    }
}
