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
            throw JSONParseError(line: 1, column: 1, reason: "there is a byte order mark before the JSON")
        }
        let flags = Int(JSON_REJECT_DUPLICATES) | Int(JSON_ALLOW_NUL) | Int(JSON_DECODE_ANY)
        let tree = JanssonTree.read(bytes, flags: flags)
        guard let value = tree.value else {
            var error = tree.error
            throw unsafe JSONParseError(
                line: max(1, Int(error.line)),
                column: max(0, Int(error.column)),
                reason: Self.reason(seedream_json_error_code(&error))
            )
        }
        self = value
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
        case json_error_duplicate_key: "a member's name occurs twice in the same object"
        case json_error_numeric_overflow: "a number is out of range"
        case json_error_out_of_memory: "out of memory"
        default: "invalid JSON"
        }
    }
}
