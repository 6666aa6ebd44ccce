package import JSON

/// A rule that a job breaks, and where.
package struct Violation: Hashable, Sendable {
    /// The rules, by their stable names.
    package enum Code: String, CaseIterable, Sendable {
        case type
        case required
        case minItems = "min_items"
        case maxItems = "max_items"
        case maxLength = "max_length"
        case blank
        case nulCharacter = "nul_character"
        case `enum`
        case minimum
        case maximum
        case unknownField = "unknown_field"
        case url
    }

    /// The place; for `required` the missing member's.
    package let pointer: JSONPointer
    package let code: Code
    /// A sentence for a person, without the job's own text but for short names of choices.
    package let message: String

    package init(_ pointer: JSONPointer, _ code: Code, _ message: String) {
        self.pointer = pointer
        self.code = code
        self.message = message
    }

    /// The violation as it stands in a reply and in `x-error-violations`.
    package var json: JSONValue {
        .object([
            JSONMember("pointer", .string(pointer.description)),
            JSONMember("code", .string(code.rawValue)),
            JSONMember("message", .string(message)),
        ])
    }
}
