import Foundation

/// The commands of a guide's page.
enum GuideSession {
    /// Each command with the first line that it prints, nil if it prints nothing.
    static func read(_ page: String) throws -> [(command: String, firstLine: String?)] {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(contentsOf: root.appendingPathComponent("deploy/guides/\(page)"), encoding: .utf8)
        var session: [(command: String, firstLine: String?)] = []
        var isConsole = false
        for line in text.components(separatedBy: "\n") {
            if line.hasPrefix("```") {
                isConsole = line == "```console"
            } else if isConsole, line.hasPrefix("$ ") {
                session.append((String(line.dropFirst(2)), nil))
            } else if isConsole, let last = session.indices.last, session[last].firstLine == nil {
                session[last].firstLine = line
            }
        }
        return session
    }
}
