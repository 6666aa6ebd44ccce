/// A place in a JSON value, such as `/image_urls/0`; empty for the whole value.
///
/// Source: RFC 6901.
package struct JSONPointer: Hashable, Sendable, CustomStringConvertible {
    /// The pointer's text.
    package let description: String

    /// The whole value.
    package static let root = JSONPointer(description: "")

    private init(description: String) {
        self.description = description
    }

    /// The member of the object here.
    package func member(_ name: String) -> JSONPointer {
        var escaped = ""
        for scalar in name.unicodeScalars {
            switch scalar {
            case "~": escaped += "~0"
            case "/": escaped += "~1"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return JSONPointer(description: "\(description)/\(escaped)")
    }

    /// The element of the array here, from 0.
    package func element(_ index: Int) -> JSONPointer {
        JSONPointer(description: "\(description)/\(index)")
    }
}
