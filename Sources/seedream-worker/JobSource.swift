import ArgumentParser
import Glibc
import SystemPackage

/// A file that can be read twice: first to check all jobs, then to publish them.
struct JobSource: Sendable {
    private let path: String
    private let spool: SpoolFile?

    /// `spool` keeps what comes from a pipe in a file, because it can be read only once.
    init(_ path: String, spool: Bool) throws {
        self.path = path
        // Opened now, so that a file that is missing is told before a job is published; a pipe with a name cannot be
        // opened once more.
        let reader = try LineReader(path)
        let isKept = path == "-" ? spool : !reader.isRegularFile
        self.spool = isKept ? try SpoolFile(copyOf: reader) : nil
        if path != "-" { reader.close() }
    }

    /// Calls `body` for each job; false from it ends the reading, and is told.
    func readEach(
        isolation: isolated (any Actor)? = #isolation,
        _ body: (JobFile.Job) async throws -> Bool
    ) async throws -> Bool {
        try await JobFile.readEach(in: try spool?.reader() ?? LineReader(path), body)
    }

    /// Calls `body` for all jobs.
    func readAll(
        isolation: isolated (any Actor)? = #isolation,
        _ body: (JobFile.Job) async throws -> Void
    ) async throws {
        _ = try await readEach { job in
            try await body(job)
            return true
        }
    }
}

/// What came from a pipe, in a file without a name that vanishes with the process.
final class SpoolFile: Sendable {
    private let descriptor: Int32
    private let name: String

    /// Copies all that a reader gives.
    init(copyOf source: LineReader) throws {
        name = source.name
        let directory = Process.environment["TMPDIR"] ?? "/var/tmp"
        var path = Array("\(directory)/seedream-worker-XXXXXX".utf8CString)
        descriptor = unsafe mkstemp(&path)
        guard descriptor >= 0 else { throw Self.fault("cannot keep \(name) in \(directory); set TMPDIR") }
        unsafe unlink(path)
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try source.readChunk(&chunk)
            guard count > 0 else { return }
            do {
                try FileDescriptor(rawValue: descriptor).writeAll(chunk[..<count])
            } catch {
                throw ValidationError("cannot keep \(name) in \(directory); set TMPDIR: \(error)")
            }
        }
    }

    deinit { _ = Glibc.close(descriptor) }

    /// Its lines from the beginning.
    func reader() -> LineReader { LineReader(rereading: descriptor, name: name) }

    private static func fault(_ what: String) -> ValidationError {
        ValidationError("\(what): \(unsafe String(cString: strerror(errno)))")
    }
}
