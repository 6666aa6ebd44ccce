import JSON

/// What `doctor` has found at one place.
struct Finding {
    /// How bad it is.
    enum Status: String {
        /// As it should be.
        case ok
        /// Works, but an operator should know.
        case warning
        /// A worker would not work.
        case fault
    }

    let check: String
    let status: Status
    let message: String
    /// What to do, where there is something to do.
    let remedy: String?

    static func ok(_ check: String, _ message: String) -> Finding {
        Finding(check: check, status: .ok, message: message, remedy: nil)
    }

    static func warning(_ check: String, _ message: String, remedy: String? = nil) -> Finding {
        Finding(check: check, status: .warning, message: message, remedy: remedy)
    }

    static func fault(_ check: String, _ message: String, remedy: String? = nil) -> Finding {
        Finding(check: check, status: .fault, message: message, remedy: remedy)
    }

    /// The finding for programs.
    var json: JSONValue {
        var members = [
            JSONMember("check", .string(check)), JSONMember("status", .string(status.rawValue)),
            JSONMember("message", .string(message)),
        ]
        if let remedy { members.append(JSONMember("remedy", .string(remedy))) }
        return .object(members)
    }

    /// The finding for people: a line, and one more with what to do.
    func lines(_ terminal: Terminal) -> [String] {
        let word = status.rawValue + String(repeating: " ", count: 7 - status.rawValue.count)
        let marked =
            switch status {
            case .ok: terminal.green(word)
            case .warning: terminal.yellow(word)
            case .fault: terminal.red(word)
            }
        let space = String(repeating: " ", count: max(1, 9 - check.count))
        let line = "\(marked)  \(terminal.bold(check))\(space)\(Terminal.plain(message))"
        return remedy.map { [line, "                  → \(Terminal.plain($0))"] } ?? [line]
    }
}
