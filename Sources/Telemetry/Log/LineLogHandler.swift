import JSON
package import Logging
import SharedValues

/// Writes each log event as one line to stderr: a JSON object, or text for people.
package struct LineLogHandler: LogHandler {
    /// The form of a line.
    package enum Format: Sendable {
        case json
        /// Time, level, message, and the metadata behind it.
        case text
    }

    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    private let format: Format
    private let lines: LogLines

    /// A handler for all loggers of the process.
    package init(format: Format, level: Logger.Level, lines: LogLines) {
        self.format = format
        self.lines = lines
        logLevel = level
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let all = event.metadata.map { metadata.merging($0) { _, new in new } } ?? metadata
        let named = all.sorted { $0.key < $1.key }.map { ($0.key, "\($0.value)") }
        let line =
            switch format {
            case .json: Self.json(event.level, "\(event.message)", named)
            case .text: Self.text(event.level, "\(event.message)", named)
            }
        lines.write(line)
    }

    private static func json(_ level: Logger.Level, _ message: String, _ metadata: [(String, String)]) -> [UInt8] {
        let members = [
            JSONMember("timestamp", .string(Timestamp.now.description)),
            JSONMember("level", .string(level.rawValue)),
            JSONMember("message", .string(message)),
        ]
        return JSONValue.object(members + metadata.map { JSONMember($0.0, json($0.1, of: $0.0)) }).encoded()
    }

    private static func json(_ text: String, of key: String) -> JSONValue {
        guard LogKey(rawValue: key)?.isNumber == true, let number = Int64(text) else { return .string(text) }
        return .integer(number)
    }

    private static func text(_ level: Logger.Level, _ message: String, _ metadata: [(String, String)]) -> [UInt8] {
        let time = Timestamp.now.description
        let name = level.rawValue.uppercased()
        let head = "\(time) \(name)\(String(repeating: " ", count: max(0, 8 - name.count))) \(message)"
        return Array(metadata.reduce(head) { "\($0) \($1.0)=\(quoted($1.1))" }.utf8)
    }

    /// A value with blanks or control characters is quoted, so that a line stays a line.
    private static func quoted(_ value: String) -> String {
        let isPlain =
            !value.isEmpty && value.unicodeScalars.allSatisfy { $0.value > 0x20 && $0 != "\"" && $0.value != 0x7F }
        return isPlain ? value : String(decoding: JSONValue.string(value).encoded(), as: UTF8.self)
    }
}
