import SharedValues

/// The fields of a form or of a query, in their order; a name may stand several times.
///
/// Source: WHATWG's "URL", `application/x-www-form-urlencoded`.
struct FormData: Sendable {
    private var fields: [(name: String, value: String)] = []

    init() {}

    init(_ text: some StringProtocol) {
        for pair in text.split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            fields.append((Self.decode(parts[0]), parts.count > 1 ? Self.decode(parts[1]) : ""))
        }
    }

    private static func decode(_ text: some StringProtocol) -> String {
        let spaced = String(text.map { $0 == "+" ? " " : $0 })
        return PercentEncoding.decode(spaced[...]).map { String(decoding: $0, as: UTF8.self) } ?? spaced
    }

    /// The names, in their order.
    var names: [String] { fields.map(\.name) }

    /// The first value of a name, nil if there is none.
    subscript(_ name: String) -> String? { fields.first { $0.name == name }?.value }

    /// The first value of a name without white space around it, nil if nothing is left.
    func word(_ name: String) -> String? {
        guard let value = self[name] else { return nil }
        let trimmed = value.drop(while: \.isWhitespace)
        let word = trimmed.reversed().drop(while: \.isWhitespace).reversed()
        return word.isEmpty ? nil : String(word)
    }

    /// All values of a name.
    func all(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }

    /// An address with fields in its query.
    static func address(_ path: String, _ fields: [(String, String)]) -> String {
        func encode(_ text: String) -> String {
            PercentEncoding.encode(text.utf8) { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
                    false
                default: true
                }
            }
        }
        guard !fields.isEmpty else { return path }
        return path + "?" + fields.map { "\(encode($0))=\(encode($1))" }.joined(separator: "&")
    }
}
