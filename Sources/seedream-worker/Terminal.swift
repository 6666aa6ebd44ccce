import Glibc
import SharedValues

/// What the program writes to: a terminal has a width, colours and a last line that can be replaced, a pipe has not.
struct Terminal {
    /// The columns, nil if lines may be of any length.
    let width: Int?
    /// Whether colours are shown.
    let hasColour: Bool

    /// The terminal behind a descriptor.
    ///
    /// Colours are off with `NO_COLOR` (no-color.org) and on a `dumb` terminal. `COLUMNS` overrides the width.
    init(_ descriptor: Int32, environment: [String: String] = Process.environment) {
        guard isatty(descriptor) == 1 else {
            width = nil
            hasColour = false
            return
        }
        var size = winsize()
        let isKnown = unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
        width = max(40, environment["COLUMNS"].flatMap { Int($0) } ?? (isKnown ? Int(size.ws_col) : 80))
        hasColour = (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb"
    }

    /// A text in bold, where there are colours.
    func bold(_ text: String) -> String { hasColour ? "\u{1B}[1m\(text)\u{1B}[0m" : text }

    /// A text in red, where there are colours.
    func red(_ text: String) -> String { hasColour ? "\u{1B}[31m\(text)\u{1B}[0m" : text }

    /// A text in green, where there are colours.
    func green(_ text: String) -> String { hasColour ? "\u{1B}[32m\(text)\u{1B}[0m" : text }

    /// A text in yellow, where there are colours.
    func yellow(_ text: String) -> String { hasColour ? "\u{1B}[33m\(text)\u{1B}[0m" : text }

    /// A text from outside in one line: control characters, with which it could take the terminal over, are escaped.
    static func plain(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            if let escaped = scalar.escapedIfUnseen {
                result.append(contentsOf: escaped.unicodeScalars)
            } else {
                result.append(scalar)
            }
        }
        return String(result)
    }

    /// A text cut to at most `columns`, with `…` where something is missing.
    static func cut(_ text: String, to columns: Int) -> String {
        text.count <= columns ? text : String(text.prefix(max(0, columns - 1))) + "…"
    }

    /// Rows under a header in columns of equal width; the last column takes what the terminal has left.
    func table(_ rows: [[String]]) -> [String] {
        guard let header = rows.first else { return [] }
        let widths = header.indices.dropLast().map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.enumerated()
            .map { number, row in
                var line = ""
                for (cell, width) in zip(row, widths) {
                    line += cell + String(repeating: " ", count: max(0, width - cell.count)) + "  "
                }
                line += row[row.count - 1]
                while line.last == " " { line.removeLast() }
                if let width { line = Self.cut(line, to: width) }
                return number == 0 ? bold(line) : line
            }
    }
}
