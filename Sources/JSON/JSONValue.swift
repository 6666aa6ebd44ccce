/// A JSON value.
///
/// Source: RFC 8259. Numbers without fraction and exponent are `integer`, all others `real`, as Jansson tells them.
package enum JSONValue: Hashable, Sendable {
    /// `null`
    case null
    /// `true` or `false`
    case boolean(Bool)
    /// A number without fraction and exponent.
    case integer(Int64)
    /// A number with fraction or exponent; finite.
    case real(Double)
    /// A string; may hold NUL.
    case string(String)
    case array([JSONValue])
    /// An object: its members in the order of the text, names unique.
    case object([JSONMember])
}

/// A member of a JSON object.
package struct JSONMember: Hashable, Sendable {
    package var name: String
    package var value: JSONValue

    package init(_ name: String, _ value: JSONValue) {
        self.name = name
        self.value = value
    }
}

extension JSONValue {
    /// The value of a member, nil if it is absent or this is no object.
    package subscript(name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    /// The text of a string, nil of anything else.
    package var text: String? {
        guard case .string(let text) = self else { return nil }
        return text
    }

    /// The integer that a number is: `2.0` is 2; a real with a fraction or beyond 2^53 is none.
    ///
    /// Beyond 2^53 a binary64 number stands for several integers, and which was meant is unknown.
    package var exactInteger: Int64? {
        switch self {
        case .integer(let value): value
        case .real(let value) where abs(value) <= 9_007_199_254_740_992: Int64(exactly: value)
        default: nil
        }
    }

    /// The type's name in RFC 8259's words.
    package var typeName: String {
        switch self {
        case .null: "null"
        case .boolean: "boolean"
        case .integer, .real: "number"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }
}

/// Why a text is no JSON, and where; with nothing of the text itself, which may be secret.
package struct JSONParseError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The line, from 1.
    package let line: Int
    /// The column in code points, from 1; 0 if the line is empty.
    package let column: Int
    package let reason: String

    /// A fault at a place.
    package init(line: Int, column: Int, reason: String) {
        self.line = line
        self.column = column
        self.reason = reason
    }

    package var description: String { "line \(line), column \(column): \(reason)" }
}
