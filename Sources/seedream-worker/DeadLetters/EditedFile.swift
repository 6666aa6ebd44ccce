import ArgumentParser
import Glibc
import SystemPackage

/// A text in a file of its own, for an editor; only this user may read it, and it goes with this unless it is kept.
final class EditedFile {
    private let path: String
    private let before: [UInt8]
    private var isKept = false

    init(_ text: [UInt8]) throws {
        let directory = Process.environment["TMPDIR"] ?? "/tmp"
        var template = Array("\(directory)/seedream-job-XXXXXX.json".utf8CString)
        let descriptor = unsafe mkstemps(&template, 5)
        guard descriptor >= 0 else { throw Self.fault("cannot write into \(directory); set TMPDIR") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        before = text
        let file = FileDescriptor(rawValue: descriptor)
        defer { try? file.close() }
        do { try file.writeAll(text) } catch { throw ValidationError("cannot write \(path): \(error)") }
    }

    deinit {
        if !isKept { _ = unsafe unlink(path) }
    }

    /// Lets a person edit it; nil if they have changed nothing.
    ///
    /// `VISUAL` or `EDITOR`, as a shell reads them, or else `vi`.
    func edit() throws -> [UInt8]? {
        let environment = Process.environment
        let editor = environment["VISUAL"] ?? environment["EDITOR"] ?? "vi"
        // As a variable: a path may have any character, and only the editor's own words are for the shell to read.
        guard unsafe setenv("EDITED_JOB", path, 1) == 0 else { throw Self.fault("cannot name \(path)") }
        let status = unsafe system("\(editor) \"$EDITED_JOB\"")
        guard status == 0 else {
            throw ValidationError("the editor '\(editor)' ended with a fault; set EDITOR to one that works")
        }
        let reader = try LineReader(path)
        defer { reader.close() }
        var text: [UInt8] = []
        while let line = try reader.next() { text += line + [UInt8(ascii: "\n")] }
        // An editor may add the newline at the end, or take it away: that is no correction.
        text = Self.trimmed(text)
        return text == Self.trimmed(before) ? nil : text
    }

    private static func trimmed(_ text: [UInt8]) -> [UInt8] {
        var text = text
        while text.last == UInt8(ascii: "\n") { text.removeLast() }
        return text
    }

    /// Leaves the file where it is, and tells where that is.
    func keep() -> String {
        isKept = true
        return path
    }

    private static func fault(_ what: String) -> ValidationError {
        ValidationError("\(what): \(unsafe String(cString: strerror(errno)))")
    }
}
