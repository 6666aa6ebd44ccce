import ArgumentParser
import EditJob
import EditWorker
import Glibc
import JSON
import OperatorTools
import RabbitMQ
import SharedValues

extension DeadLetters {
    /// `dead-letters show`: one failed job, whole.
    struct Show: BrokerCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show all that is known of failed jobs.",
            discussion: "Example: seedream-worker dead-letters show order-4711 --body"
        )

        @Argument(help: "Job ids. Without any, the oldest letters are shown, one or as many as --limit says.")
        var ids: [String] = []

        @Flag(help: "Also show the job's body, which contains the prompt.")
        var body = false

        @OptionGroup
        var flags: DeadLetterFlags<BrokerSettings>

        var limits: CommandLimits { flags.limits }

        func run() async throws {
            var flags = flags
            flags.job += ids
            if flags.filter.isEmpty, flags.limit == nil { flags.limit = 1 }
            var shown = 0
            try await flags.walk(for: "show") { walk, _ in
                try await walk.each(flags) { letter in
                    if shown > 0 { Output.result("") }
                    for line in lines(letter) { Output.result(line) }
                    shown += 1
                    return true
                }
            }
            guard shown == 0 else { return }
            Output.error("seedream-worker: no such dead letter\(flags.unknown ? "" : "; see also --unknown")")
            throw ExitCode(ExitStatus.someFailed)
        }

        private func lines(_ letter: DeadLetter) -> [String] {
            let terminal = Terminal(STDOUT_FILENO)
            let headers = letter.delivery.properties.headers ?? [:]
            var facts: [(String, String?)] = [
                ("job", letter.jobID), ("code", letter.code), ("message", letter.message),
                ("charged", letter.charged), ("attempts", letter.attempts.map { "\($0)" }),
                ("task id", headers[JobHeader.taskID]?.text),
                ("HTTP status", headers[JobHeader.httpStatus]?.integer.map { "\($0)" }),
            ]
            if let failedAt = letter.failedAt, let age = letter.age(at: .now) {
                facts.append(("failed at", "\(failedAt) (\(ShortDuration.text(age)) ago)"))
            }
            facts.append(("worker", headers[JobHeader.worker]?.text))
            var lines = Self.section(facts, terminal.bold)
            if !letter.violations.isEmpty {
                lines.append(terminal.bold("violations"))
                lines += letter.violations.map { violation in
                    let pointer = violation["pointer"]?.text ?? ""
                    let message = "\(violation["message"]?.text ?? "") (\(violation["code"]?.text ?? ""))"
                    return "  " + Terminal.plain(pointer.isEmpty ? message : "\(pointer): \(message)")
                }
            }
            lines.append(terminal.bold("properties"))
            lines += Self.section(Self.properties(letter.delivery.properties)).map { "  " + $0 }
            lines.append(terminal.bold("headers"))
            lines +=
                Self.section(
                    headers.entries.filter { $0.name != JobHeader.errorViolations }
                        .map { ($0.name.text, $0.value.shown) }
                )
                .map { "  " + $0 }
            guard body else {
                return lines + ["\(terminal.bold("body"))  \(letter.delivery.body.count) bytes; --body shows it"]
            }
            let text = String(decoding: letter.delivery.body, as: UTF8.self)
            return lines + [terminal.bold("body")]
                + text.split(separator: "\n", omittingEmptySubsequences: false)
                .map { "  " + Terminal.plain(String($0)) }
        }

        private static func section(
            _ facts: [(String, String?)],
            _ mark: (String) -> String = { $0 }
        ) -> [String] {
            let known = facts.filter { $0.1?.isEmpty == false }
            let width = known.map { $0.0.count }.max() ?? 0
            return known.map { name, value in
                let space = String(repeating: " ", count: width - name.count + 2)
                return mark(Terminal.plain(name)) + space + Terminal.plain(value ?? "")
            }
        }

        private static func properties(_ properties: MessageProperties) -> [(String, String?)] {
            [
                ("message_id", properties.messageID?.text), ("correlation_id", properties.correlationID?.text),
                ("reply_to", properties.replyTo?.text), ("content_type", properties.contentType?.text),
                ("content_encoding", properties.contentEncoding?.text), ("type", properties.type?.text),
                ("app_id", properties.appID?.text), ("priority", properties.priority.map { "\($0)" }),
                ("delivery_mode", properties.deliveryMode.map { "\($0)" }),
                ("timestamp", properties.timestamp.map { "\($0)" }),
            ]
        }
    }
}

extension FieldValue {
    /// The value for people.
    fileprivate var shown: String {
        switch self {
        case .array(let values): "[" + values.map(\.shown).joined(separator: ", ") + "]"
        case .table(let table):
            "{" + table.entries.map { "\($0.name): \($0.value.shown)" }.joined(separator: ", ") + "}"
        case .boolean(let value): "\(value)"
        case .timestamp(let seconds): "\(seconds)"
        case .float(let value): "\(value)"
        case .double(let value): "\(value)"
        case .uint64(let value): "\(value)"
        case .decimal(let scale, let value): "\(value)e-\(scale)"
        case .void: "(void)"
        default: text ?? integer.map { "\($0)" } ?? ""
        }
    }
}
