import Foundation

/// Files of one test's own, which go with the directory for temporary files.
package enum TemporaryFile {
    /// A path that nobody has used.
    package static func path(_ name: String) -> String {
        FileManager.default.temporaryDirectory.appendingPathComponent("\(name)-\(UUID().uuidString)").path
    }
}
