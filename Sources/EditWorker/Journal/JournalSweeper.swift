import EditJob
package import Logging
import ServiceLifecycle

/// Lets the journal forget what is older than its retention, in the background.
package struct JournalSweeper: Service, CustomStringConvertible {
    /// For the logs of the service group.
    package let description = "journal sweeper"

    /// How often; a sweep is short, and an entry may well stand a minute longer.
    private static let interval = Duration.seconds(60)

    private let journal: any SubmissionJournal
    private let retention: Duration
    private let logger: Logger

    /// A sweeper that forgets what ended longer ago than `retention`.
    package init(journal: any SubmissionJournal, retention: Duration, logger: Logger) {
        self.journal = journal
        self.retention = retention
        self.logger = logger
    }

    /// Sweeps until the graceful shutdown.
    package func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                do throws(JournalFault) {
                    try await journal.sweep(before: Timestamp.now.milliseconds - retention.wholeMilliseconds)
                } catch {
                    logger.log(.warning, "the journal cannot be swept", [.error: error.description])
                }
                try? await Task.sleep(for: Self.interval)
            }
        }
    }
}
