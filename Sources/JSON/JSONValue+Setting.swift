extension JSONValue {
    /// The value with another one at a place; nil if there is no such place.
    ///
    /// A member that is not there yet is added to its object, an element behind the last (`-` or the count) to its array.
    package func setting(_ value: JSONValue, at pointer: JSONPointer) -> JSONValue? {
        setting(value, at: pointer.tokens[...])
    }

    private func setting(_ value: JSONValue, at tokens: ArraySlice<String>) -> JSONValue? {
        guard let token = tokens.first else { return value }
        let rest = tokens.dropFirst()
        switch self {
        case .object(var members):
            guard let index = members.firstIndex(where: { $0.name == token }) else {
                guard rest.isEmpty else { return nil }
                return .object(members + [JSONMember(token, value)])
            }
            guard let changed = members[index].value.setting(value, at: rest) else { return nil }
            members[index].value = changed
            return .object(members)
        case .array(var elements):
            guard let index = token == "-" ? elements.count : Int(token), (0...elements.count).contains(index) else {
                return nil
            }
            guard index < elements.count else { return rest.isEmpty ? .array(elements + [value]) : nil }
            guard let changed = elements[index].setting(value, at: rest) else { return nil }
            elements[index] = changed
            return .array(elements)
        case .null, .boolean, .integer, .real, .string:
            return nil
        }
    }
}
