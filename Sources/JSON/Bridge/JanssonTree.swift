import CJansson

/// Reads texts with Jansson: each tree lives and dies in one call, so that no two can be alive on a thread, whose memory
/// they would share.
enum JanssonTree {
    /// A copy of the tree, which needs Jansson no longer; nil if the text is none, and what is wrong with it.
    static func read(_ text: [UInt8], flags: Int) -> (value: JSONValue?, error: json_error_t) {
        var error = json_error_t()
        defer { seedream_json_end() }
        let root = unsafe text.withUnsafeBytes { text in
            // An empty array has no address, and Jansson refuses a null one with another error.
            let start = unsafe text.baseAddress ?? UnsafeRawPointer(bitPattern: 1)
            return unsafe seedream_json_begin(start, text.count, flags, &error)
        }
        return unsafe (root.map { unsafe value(of: $0) }, error)
    }

    private static func value(of json: UnsafeMutablePointer<json_t>) -> JSONValue {
        switch unsafe seedream_json_type(json) {
        case JSON_TRUE: return .boolean(true)
        case JSON_FALSE: return .boolean(false)
        case JSON_INTEGER: return unsafe .integer(json_integer_value(json))
        case JSON_REAL: return unsafe .real(json_real_value(json))
        case JSON_STRING:
            return unsafe .string(text(json_string_value(json), json_string_length(json)))
        case JSON_ARRAY:
            let count = unsafe json_array_size(json)
            return .array(
                (0..<count).map { index in unsafe json_array_get(json, index).map { unsafe value(of: $0) } ?? .null }
            )
        case JSON_OBJECT: return unsafe .object(members(of: json))
        default: return .null
        }
    }

    private static func members(of json: UnsafeMutablePointer<json_t>) -> [JSONMember] {
        var members: [JSONMember] = []
        unsafe members.reserveCapacity(json_object_size(json))
        var iterator = unsafe json_object_iter(json)
        while let current = unsafe iterator {
            let name = unsafe text(json_object_iter_key(current), json_object_iter_key_len(current))
            unsafe members.append(
                JSONMember(name, json_object_iter_value(current).map { unsafe value(of: $0) } ?? .null)
            )
            unsafe iterator = json_object_iter_next(json, current)
        }
        return members
    }

    /// With the length, because a string may hold NUL.
    ///
    /// Jansson has checked that it is UTF-8.
    private static func text(_ start: UnsafePointer<CChar>?, _ count: Int) -> String {
        unsafe String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }
}
