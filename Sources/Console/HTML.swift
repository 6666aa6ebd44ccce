import SharedValues

/// Text for a browser in which what comes from elsewhere cannot be anything but text.
///
/// An interpolated string is escaped, interpolated `HTML` is not: the compiler keeps them apart. No library here does it
/// without all of Foundation (40 MB in the binary); these are sixty lines.
struct HTML: Sendable, ExpressibleByStringInterpolation {
    private(set) var text: String

    init(stringLiteral text: String) { self.text = text }

    init(stringInterpolation: StringInterpolation) { text = stringInterpolation.text }

    /// Pieces one after the other.
    init(_ pieces: some Sequence<HTML>) { text = pieces.reduce(into: "") { $0 += $1.text } }

    struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var text = ""

        init(literalCapacity: Int, interpolationCount: Int) { text.reserveCapacity(literalCapacity) }

        mutating func appendLiteral(_ literal: String) { text += literal }

        mutating func appendInterpolation(_ html: HTML) { text += html.text }

        mutating func appendInterpolation(_ html: [HTML]) { for piece in html { text += piece.text } }

        mutating func appendInterpolation(_ number: some BinaryInteger) { text += String(number) }

        mutating func appendInterpolation(_ words: String) { HTML.escape(words, to: &text) }

        /// What a form gives back must be, character for character, what it was given.
        mutating func appendInterpolation(exact words: String) { HTML.escape(words, to: &text, isForEye: false) }
    }

    static let empty: HTML = ""

    /// Escapes what HTML reads as more than text, and for the eye what no reader could see.
    private static func escape(_ words: String, to text: inout String, isForEye: Bool = true) {
        for scalar in words.unicodeScalars {
            switch scalar {
            case "&": text += "&amp;"
            case "<": text += "&lt;"
            case ">": text += "&gt;"
            case "\"": text += "&quot;"
            case "'": text += "&#39;"
            case "\r" where !isForEye: text += "&#13;"
            case "\n", "\t": text.unicodeScalars.append(scalar)
            // Joiners make one sign of several, in emoji and in whole scripts.
            case "\u{200C}", "\u{200D}": text.unicodeScalars.append(scalar)
            default:
                if isForEye, let escaped = scalar.escapedIfUnseen {
                    text += escaped
                } else {
                    text.unicodeScalars.append(scalar)
                }
            }
        }
    }
}

extension String {
    /// At most `count` characters, with `…` if something is missing.
    func cut(to count: Int) -> String {
        // Of a text of many megabytes no more is looked at than is shown.
        guard let end = index(startIndex, offsetBy: count, limitedBy: endIndex), end < endIndex else { return self }
        return String(self[..<end]) + "…"
    }
}
