import ArgumentParser
import EditJob
import Glibc
import JSON

/// Reads jobs from a file: one a line (NDJSON), or a JSON array or object.
enum JobFile {
    /// A job as it stands in a file.
    struct Job {
        /// The file's name as it was given.
        let file: String
        /// The line of its first byte, from 1.
        let line: Int
        /// Its text.
        let text: [UInt8]

        /// The job, checked by the worker's rules.
        func checked(unknownFields: UnknownFieldPolicy) throws(EditJob.Invalid) -> EditJob {
            try EditJob(parsing: text, unknownFields: unknownFields)
        }
    }

    /// Calls `body` for each job of a file; `-` is stdin.
    ///
    /// NDJSON is read line by line, so that its length is no matter.
    static func readEach(in path: String, _ body: (Job) async throws -> Void) async throws {
        let reader = try LineReader(path)
        defer { reader.close() }
        var line = 0
        var isFirst = true
        while let text = try reader.next() {
            line += 1
            guard !text.allSatisfy(isBlank) else { continue }
            if isFirst, !isWhole(text) {
                try await readEachElement(ofDocumentFrom: text, at: line, reader, body)
                return
            }
            isFirst = false
            try await body(Job(file: reader.name, line: line, text: text))
        }
    }

    /// A first line that is no value by itself begins a document that spans lines; so does an array on one line.
    private static func isWhole(_ text: [UInt8]) -> Bool {
        guard let value = try? JSONValue(parsing: text), case .object = value else { return false }
        return true
    }

    private static func readEachElement(
        ofDocumentFrom first: [UInt8],
        at line: Int,
        _ reader: LineReader,
        _ body: (Job) async throws -> Void
    ) async throws {
        var lines = [first]
        while let text = try reader.next() { lines.append(text) }
        let document = Array(lines.joined(separator: [UInt8(ascii: "\n")]))
        switch try? JSONValue(parsing: document) {
        case .array(let elements)?:
            for element in elements {
                try await body(Job(file: reader.name, line: line, text: element.encoded()))
            }
        case .object?:
            try await body(Job(file: reader.name, line: line, text: document))
        default:
            // No document either: each line is a job of its own, and those that are none are told one by one.
            for (offset, text) in lines.enumerated() where !text.allSatisfy(isBlank) {
                try await body(Job(file: reader.name, line: line + offset, text: text))
            }
        }
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x0D
    }
}

/// Reads a file line by line through a buffer of fixed size.
final class LineReader {
    let name: String
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var start = 0
    private var isAtEnd = false

    init(_ path: String) throws {
        if path == "-" {
            name = "stdin"
            descriptor = STDIN_FILENO
            return
        }
        name = path
        descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw ValidationError("cannot read \(path): \(unsafe String(cString: strerror(errno)))")
        }
    }

    /// The next line without its end, nil after the last.
    func next() throws -> [UInt8]? {
        while true {
            if let end = buffer[start...].firstIndex(of: UInt8(ascii: "\n")) {
                defer { start = end + 1 }
                return Array(buffer[start..<end])
            }
            guard !isAtEnd else {
                guard start < buffer.count else { return nil }
                defer { start = buffer.count }
                return Array(buffer[start...])
            }
            try fill()
        }
    }

    private func fill() throws {
        buffer.removeFirst(start)
        start = 0
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        let count = unsafe read(descriptor, &chunk, chunk.count)
        guard count >= 0 else {
            throw ValidationError("cannot read \(name): \(unsafe String(cString: strerror(errno)))")
        }
        isAtEnd = count == 0
        buffer += chunk[..<count]
    }

    func close() {
        if descriptor != STDIN_FILENO { _ = Glibc.close(descriptor) }
    }
}
