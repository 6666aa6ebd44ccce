import EditJob
import JSON

extension JournalEntry.State {
    /// The state as stores keep it: a number, and a text that says the rest.
    var stored: (number: Int64, detail: String?) {
        switch self {
        case .begun(let owner): (0, owner)
        case .accepted(let taskID): (1, taskID)
        case .failed(let failure): (2, failure.stored)
        case .retrying: (3, nil)
        case .refused(let failure): (4, failure.stored)
        }
    }

    /// Reads what `stored` gave.
    init(stored number: Int64, detail: String) {
        switch number {
        case 0: self = .begun(owner: detail)
        case 1: self = .accepted(taskID: detail)
        case 2: self = .failed(JobFailure(stored: detail))
        case 4: self = .refused(JobFailure(stored: detail))
        default: self = .retrying
        }
    }
}

extension JobFailure {
    /// What a failure says again to a delivery that comes again; the API's refusals have no violations.
    fileprivate var stored: String {
        let json = JSONValue.object([
            JSONMember("code", .string(code.rawValue)), JSONMember("message", .string(message)),
            JSONMember("charged", .string(charged.rawValue)),
            JSONMember("http_status", httpStatus.map { .integer(Int64($0)) } ?? .null),
        ])
        return String(decoding: json.encoded(), as: UTF8.self)
    }

    /// Reads what `stored` wrote; anything else is taken for the worse.
    fileprivate init(stored: String) {
        let json = try? JSONValue(parsing: stored.utf8)
        self.init(
            json?["code"]?.text.flatMap { Code(rawValue: $0) } ?? .outcomeUnknown,
            json?["message"]?.text ?? "The journal's entry cannot be read.",
            charged: json?["charged"]?.text == Charge.no.rawValue ? .no : .maybe,
            httpStatus: json?["http_status"]?.exactInteger.map { Int($0) }
        )
    }
}
