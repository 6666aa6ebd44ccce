package import Logging
import NIOConcurrencyHelpers

/// Counts the jobs without a `message_id`, which the journal cannot recognise when they come again.
package final class AnonymousJobs: Sendable {
    private let total = NIOLockedValueBox(0)
    private let metrics: WorkerMetrics
    private let logger: Logger

    /// None so far.
    package init(metrics: WorkerMetrics, logger: Logger) {
        self.metrics = metrics
        self.logger = logger
    }

    /// How many there were.
    package var count: Int { total.withLockedValue { $0 } }

    /// Counts one, and tells the log of the first, the tenth, the hundredth and so on.
    package func note() {
        metrics.anonymousJob()
        let count = total.withLockedValue { total in
            total += 1
            return total
        }
        guard Self.isPowerOfTen(count) else { return }
        logger.log(
            .warning,
            "jobs come without a message_id; they cannot be kept from being paid twice",
            [.count: "\(count)", .remedy: "let the producer set message_id"]
        )
    }

    private static func isPowerOfTen(_ number: Int) -> Bool {
        var rest = number
        while rest % 10 == 0 { rest /= 10 }
        return rest == 1
    }
}
