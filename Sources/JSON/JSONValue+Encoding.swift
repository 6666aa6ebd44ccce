extension JSONValue {
    /// The compact text in UTF-8.
    ///
    /// Not through Jansson, which wants a tree of its own, a copy of every string, and a call for every piece of text: that
    /// took seven times as long. Source: RFC 8259 §7.
    package func encoded() -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(leastSize)
        append(to: &text)
        return text
    }

    /// The size of the text where nothing needs an escape and numbers are short: growing step by step would copy it
    /// several times.
    private var leastSize: Int {
        switch self {
        case .null, .boolean, .integer, .real: 4
        case .string(let value): value.utf8.count + 2
        case .array(let elements): elements.indices.reduce(2) { $0 + elements[$1].leastSize + 1 }
        // By their indices, here and below: a member in a variable is a copy, which counts two references.
        case .object(let members):
            members.indices.reduce(2) { $0 + members[$1].name.utf8.count + members[$1].value.leastSize + 4 }
        }
    }

    private func append(to text: inout [UInt8]) {
        switch self {
        case .null: text += "null".utf8
        case .boolean(let value): text += (value ? "true" : "false").utf8
        case .integer(let value): text += "\(value)".utf8
        // JSON has no words for what is not finite.
        case .real(let value): text += (value.isFinite ? "\(value)" : "null").utf8
        case .string(let value): Self.append(value, to: &text)
        case .array(let elements):
            text.append(UInt8(ascii: "["))
            for index in elements.indices {
                if index > 0 { text.append(UInt8(ascii: ",")) }
                elements[index].append(to: &text)
            }
            text.append(UInt8(ascii: "]"))
        case .object(let members):
            text.append(UInt8(ascii: "{"))
            for index in members.indices {
                if index > 0 { text.append(UInt8(ascii: ",")) }
                Self.append(members[index].name, to: &text)
                text.append(UInt8(ascii: ":"))
                members[index].value.append(to: &text)
            }
            text.append(UInt8(ascii: "}"))
        }
    }

    /// A string between its quotes: in pieces as long as nothing in them needs an escape.
    private static func append(_ string: String, to text: inout [UInt8]) {
        text.append(quote)
        var string = string
        string.withUTF8 { utf8 in
            let bytes = unsafe utf8.span
            var (start, index) = (0, 0)
            while index < bytes.count {
                defer { index += 1 }
                let byte = bytes[index]
                guard byte < 0x20 || byte == quote || byte == backslash else { continue }
                unsafe text.append(contentsOf: UnsafeBufferPointer(rebasing: utf8[start..<index]))
                appendEscape(of: byte, to: &text)
                start = index + 1
            }
            unsafe text.append(contentsOf: UnsafeBufferPointer(rebasing: utf8[start...]))
        }
        text.append(quote)
    }

    private static func appendEscape(of byte: UInt8, to text: inout [UInt8]) {
        text.append(backslash)
        switch byte {
        case quote, backslash: text.append(byte)
        case 0x08: text.append(UInt8(ascii: "b"))
        case 0x09: text.append(UInt8(ascii: "t"))
        case 0x0A: text.append(UInt8(ascii: "n"))
        case 0x0C: text.append(UInt8(ascii: "f"))
        case 0x0D: text.append(UInt8(ascii: "r"))
        default: text += "u00\(byte < 16 ? "0" : "")\(String(byte, radix: 16, uppercase: true))".utf8
        }
    }

    fileprivate static let quote = UInt8(ascii: "\"")
    fileprivate static let backslash = UInt8(ascii: "\\")
}

extension JSONValue {
    /// The JSON for people: each member and element on a line of its own.
    package var indented: String { indented(by: 0) }

    private func indented(by depth: Int) -> String {
        let (open, close, parts): (String, String, [String])
        switch self {
        case .array(let elements) where !elements.isEmpty:
            (open, close, parts) = ("[", "]", elements.map { $0.indented(by: depth + 1) })
        case .object(let members) where !members.isEmpty:
            let lines = members.map { member in
                let name = String(decoding: JSONValue.string(member.name).encoded(), as: UTF8.self)
                return "\(name): \(member.value.indented(by: depth + 1))"
            }
            (open, close, parts) = ("{", "}", lines)
        default: return String(decoding: encoded(), as: UTF8.self)
        }
        let margin = String(repeating: "  ", count: depth)
        return "\(open)\n" + parts.map { "\(margin)  \($0)" }.joined(separator: ",\n") + "\n\(margin)\(close)"
    }
}
