package import JSON
import NIOConcurrencyHelpers

/// What a stand-in has seen so far.
package final class SandboxStatistics: Sendable {
    private struct Counts {
        var requests: Int64 = 0
        var accepted: Int64 = 0
        var duplicates: Int64 = 0
        var unanswered: Int64 = 0
        var looks: Int64 = 0
        var inFlight: Int64 = 0
        var peakInFlight: Int64 = 0
        var byStatus: [Int: Int64] = [:]
        var acceptedKeys: Set<String> = []
    }

    private let counts = NIOLockedValueBox(Counts())

    package init() {}

    func began() {
        counts.withLockedValue { counts in
            counts.requests += 1
            counts.inFlight += 1
            counts.peakInFlight = max(counts.peakInFlight, counts.inFlight)
        }
    }

    /// The status of a task was asked for.
    func looked() {
        counts.withLockedValue { $0.looks += 1 }
    }

    /// A job was taken, whatever the requester hears of it.
    ///
    /// Without a key it cannot be told from another.
    func accepted(key: String?) {
        counts.withLockedValue { counts in
            counts.accepted += 1
            guard let key else { return }
            if !counts.acceptedKeys.insert(key).inserted { counts.duplicates += 1 }
        }
    }

    /// `status` is nil if no answer was sent.
    func ended(status: Int?) {
        counts.withLockedValue { counts in
            counts.inFlight -= 1
            if let status {
                counts.byStatus[status, default: 0] += 1
            } else {
                counts.unanswered += 1
            }
        }
    }

    /// The statistics as `GET /stats` gives them.
    package var json: JSONValue {
        counts.withLockedValue { counts in
            .object([
                JSONMember("requests", .integer(counts.requests)),
                JSONMember("accepted", .integer(counts.accepted)),
                JSONMember("duplicates", .integer(counts.duplicates)),
                JSONMember("unanswered", .integer(counts.unanswered)),
                JSONMember("looks", .integer(counts.looks)),
                JSONMember("in_flight", .integer(counts.inFlight)),
                JSONMember("peak_in_flight", .integer(counts.peakInFlight)),
                JSONMember(
                    "by_status",
                    .object(
                        counts.byStatus.sorted { $0.key < $1.key }.map { JSONMember("\($0.key)", .integer($0.value)) }
                    )
                ),
            ])
        }
    }
}
