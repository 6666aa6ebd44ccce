import CJansson

extension JSONValue {
    /// Reads one JSON value.
    ///
    /// Duplicate names, invalid UTF-8, lone surrogates, numbers out of range, and more than 2048
    /// levels are errors; a NUL within a string is not.
    ///
    /// Source: Jansson's "API Reference", `json_loadb`.
    package init(parsing text: some Collection<UInt8>) throws(JSONParseError) {
        let bytes = Array(text)
        guard !bytes.starts(with: [0xEF, 0xBB, 0xBF]) else {
            throw JSONParseError(line: 1, column: 1, reason: "a byte order mark stands before the JSON")
        }
        var error = json_error_t()
        let flags = Int(JSON_REJECT_DUPLICATES) | Int(JSON_ALLOW_NUL) | Int(JSON_DECODE_ANY)
        let root = unsafe bytes.withUnsafeBytes { buffer in
            // An empty array has no address, and `json_loadb` refuses a null one with another error.
            unsafe json_loadb(buffer.baseAddress ?? UnsafeRawPointer(bitPattern: 1), buffer.count, flags, &error)
        }
        guard let tree = unsafe JanssonTree(owning: root) else {
            throw unsafe JSONParseError(
                line: max(1, Int(error.line)),
                column: max(0, Int(error.column)),
                reason: Self.reason(seedream_json_error_code(&error))
            )
        }
        self = tree.value()
    }

    /// The compact text in UTF-8.
    package func encoded() -> [UInt8] {
        // Only a lack of memory leaves Jansson without a tree, and then there is no way to go on.
        guard let tree = unsafe JanssonTree(owning: jansson()) else { return Array("null".utf8) }
        return tree.encoded()
    }

    /// Jansson's own text is not used: it quotes the input.
    private static func reason(_ code: Int32) -> String {
        switch json_error_code(UInt32(code)) {
        case json_error_stack_overflow: "nested more than 2048 levels deep"
        case json_error_invalid_utf8: "invalid UTF-8"
        case json_error_premature_end_of_input: "the text ends before the value does"
        case json_error_end_of_input_expected: "more than one value"
        case json_error_invalid_syntax: "invalid syntax"
        case json_error_null_byte_in_key: "NUL in a member's name"
        case json_error_null_character: "NUL in a string"
        case json_error_duplicate_key: "a member's name stands twice in the same object"
        case json_error_numeric_overflow: "a number is out of range"
        case json_error_out_of_memory: "out of memory"
        default: "invalid JSON"
        }
    }

    /// A new tree with one reference, which the caller owns.
    private func jansson() -> UnsafeMutablePointer<json_t>? {
        switch self {
        case .null: return unsafe json_null()
        case .boolean(let value): return unsafe value ? json_true() : json_false()
        case .integer(let value): return unsafe json_integer(value)
        case .real(let value): return unsafe json_real(value) ?? json_null()
        case .string(let value):
            var value = value
            return value.withUTF8 { utf8 in
                unsafe utf8.withMemoryRebound(to: CChar.self) { characters in
                    unsafe json_stringn_nocheck(characters.baseAddress ?? Self.noCharacters, characters.count)
                }
            }
        case .array(let elements):
            let array = unsafe json_array()
            for element in elements { unsafe json_array_append_new(array, element.jansson()) }
            return unsafe array
        case .object(let members):
            let object = unsafe json_object()
            for member in members {
                var name = member.name
                name.withUTF8 { utf8 in
                    unsafe utf8.withMemoryRebound(to: CChar.self) { characters in
                        _ = unsafe json_object_setn_new_nocheck(
                            object,
                            characters.baseAddress ?? Self.noCharacters,
                            characters.count,
                            member.value.jansson()
                        )
                    }
                }
            }
            return unsafe object
        }
    }

    /// Jansson refuses a null address even for no characters; it reads nothing through this one.
    private static var noCharacters: UnsafePointer<CChar> {
        unsafe UnsafePointer(bitPattern: 1).unsafelyUnwrapped
    }
}
