package import EditJob
package import JSON

/// A change to a job before it is replayed.
package enum JobCorrection: Sendable {
    case set([Assignment])
    /// Another text in place of exactly that one, from an editor.
    case replace([UInt8], by: [UInt8])

    /// A value for a place: `/prompt=Make it blue`.
    package struct Assignment: Sendable {
        package let pointer: JSONPointer
        package let value: JSONValue

        /// Reads `POINTER=VALUE`; nil if the text is nothing of the kind.
        ///
        /// What is JSON is taken for that, anything else for a string.
        package init?(_ text: String) {
            guard let equals = text.firstIndex(of: "="), let pointer = JSONPointer(String(text[..<equals])),
                !pointer.tokens.isEmpty
            else { return nil }
            let value = text[text.index(after: equals)...]
            self.pointer = pointer
            self.value = (try? JSONValue(parsing: Array(value.utf8))) ?? .string(String(value))
        }
    }

    /// The job cannot be corrected so.
    package struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// What is wrong, with the place.
        package let description: String
    }

    /// The corrected job's text, checked by the worker's rules.
    package func applied(to body: [UInt8], unknownFields: UnknownFieldPolicy) throws(Fault) -> [UInt8] {
        let text = try changed(body)
        do {
            _ = try EditJob(parsing: text, unknownFields: unknownFields)
        } catch {
            switch error {
            case .malformed(let fault): throw Fault(description: "It is not valid JSON: \(fault).")
            case .violations(let violations):
                let lines = violations.map { "\($0.pointer): \($0.message) (\($0.code.rawValue))" }
                throw Fault(description: lines.joined(separator: "\n"))
            }
        }
        return text
    }

    private func changed(_ body: [UInt8]) throws(Fault) -> [UInt8] {
        switch self {
        case .replace(let original, let text):
            guard body == original else {
                throw Fault(description: "It is another job than the one that was edited. Edit it by itself.")
            }
            return text
        case .set(let assignments):
            guard var job = try? JSONValue(parsing: body) else {
                throw Fault(description: "The job is not JSON, so no value in it can be set. Use --edit.")
            }
            for assignment in assignments {
                guard let changed = job.setting(assignment.value, at: assignment.pointer) else {
                    throw Fault(description: "The job has no place \(assignment.pointer).")
                }
                job = changed
            }
            return job.encoded()
        }
    }
}
