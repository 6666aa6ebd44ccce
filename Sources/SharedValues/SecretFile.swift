import SystemPackage

/// Reads files that hold one secret.
package enum SecretFile {
    /// Longer is no token or password, but the wrong file.
    private static let longest = 64 * 1024

    /// The file's text, nil if it cannot be read, is no UTF-8, or is far too long.
    package static func text(at path: String) -> String? {
        guard let file = try? FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec) else { return nil }
        defer { try? file.close() }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while bytes.count <= longest {
            guard let count = try? file.read(into: &chunk) else { return nil }
            guard count > 0 else { return String(validating: bytes, as: UTF8.self) }
            bytes += chunk[..<count]
        }
        return nil
    }

    /// The one word in a text, nil if there is none or it could not be a header's value.
    package static func token(in text: String) -> String? {
        let words = text.split(whereSeparator: \.isWhitespace)
        guard words.count == 1, words[0].utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { return nil }
        return String(words[0])
    }
}
