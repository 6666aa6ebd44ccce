/// A file that can be read twice: first to check all jobs, then to publish them.
struct JobSource: Sendable {
    private let path: String
    /// All of a pipe, which can be read only once.
    private let text: [UInt8]?

    /// With `isReadOnce` standard input is read as it comes, and not kept.
    init(_ path: String, isReadOnce: Bool) throws {
        self.path = path
        // Opened now, so that a file that is missing is told before a job is published; a pipe with a name cannot be
        // opened once more.
        let reader = try LineReader(path)
        let isKept = path == "-" ? !isReadOnce : !reader.isRegularFile
        text = isKept ? try reader.rest() : nil
        if path != "-" { reader.close() }
    }

    private func reader() throws -> LineReader {
        if let text { LineReader(text, name: path == "-" ? "stdin" : path) } else { try LineReader(path) }
    }

    /// Calls `body` for each job; false from it ends the reading, and is told.
    func readEach(
        isolation: isolated (any Actor)? = #isolation,
        _ body: (JobFile.Job) async throws -> Bool
    ) async throws -> Bool {
        try await JobFile.readEach(in: reader(), body)
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
