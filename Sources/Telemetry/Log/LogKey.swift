package import Logging

/// The names of all metadata: logs are searched by them, so each thing has one.
package enum LogKey: String, Sendable {
    case address
    case apiAnswer = "api_answer"
    case attempts
    case broker
    case charged
    case code
    case delay
    case durationMilliseconds = "duration_ms"
    case error
    case httpStatus = "http_status"
    case jobID = "job_id"
    case queue
    case reason
    case remedy
    case proxy
    case replyTo = "reply_to"
    case result
    case role
    case status
    case signal
    case taskID = "task_id"
    case traceID = "trace_id"
    case user
    case version
    case count
    case wait

    /// Whether the value is a whole number, and no text, in a JSON line.
    var isNumber: Bool {
        switch self {
        case .attempts, .count, .durationMilliseconds, .httpStatus: true
        default: false
        }
    }
}

extension Logger {
    /// Logs a constant message with what varies as metadata.
    package func log(_ level: Logger.Level, _ message: StaticString, _ metadata: [LogKey: String] = [:]) {
        guard level >= logLevel else { return }
        var named: Logger.Metadata = [:]
        for (key, value) in metadata { named[key.rawValue] = .string(value) }
        log(level: level, "\(message)", metadata: named)
    }
}
