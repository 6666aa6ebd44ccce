import EditJob
import Glibc
import JSON
import OperatorTools

/// Reads jobs from a file: one a line (NDJSON), or a JSON array or object.
enum JobFile {
    /// A job as it stands in a file.
    struct Job {
        /// The file's name as it was given.
        let file: String
        /// The line of its first byte, from 1.
        let line: Int
        /// Which element of the array in that line it is, from 0; nil outside an array.
        var element: Int?
        let text: [UInt8]

        /// Where it stands, for people.
        var place: String { "\(file):\(line)\(element.map { ": /\($0)" } ?? "")" }

        /// The job, checked by the worker's rules.
        func checked(unknownFields: UnknownFieldPolicy) throws(EditJob.Invalid) -> EditJob {
            try EditJob(parsing: ExportedJob(text)?.text ?? text, unknownFields: unknownFields)
        }
    }

    /// Calls `body` for each job of a file; false from it ends the reading, and is told.
    ///
    /// NDJSON is read line by line, so that its length is no matter.
    static func readEach(
        in reader: LineReader,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (Job) async throws -> Bool
    ) async throws -> Bool {
        defer { reader.close() }
        var line = 0
        var isFirst = true
        while let text = try reader.next() {
            line += 1
            guard !text.allSatisfy(isBlank) else { continue }
            if isFirst, !isWhole(text) {
                return try await readEachElement(ofDocumentFrom: text, at: line, reader, body)
            }
            isFirst = false
            guard try await body(Job(file: reader.name, line: line, text: text)) else { return false }
        }
        return true
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
        isolation: isolated (any Actor)? = #isolation,
        _ body: (Job) async throws -> Bool
    ) async throws -> Bool {
        var lines = [first]
        while let text = try reader.next() { lines.append(text) }
        let document = Array(lines.joined(separator: [UInt8(ascii: "\n")]))
        switch try? JSONValue(parsing: document) {
        case .array(let elements)?:
            for (index, element) in elements.enumerated() {
                let job = Job(file: reader.name, line: line, element: index, text: element.encoded())
                guard try await body(job) else { return false }
            }
        case .object?:
            return try await body(Job(file: reader.name, line: line, text: document))
        default:
            // No document either: each line is a job of its own, and those that are none are told one by one.
            for (offset, text) in lines.enumerated() where !text.allSatisfy(isBlank) {
                guard try await body(Job(file: reader.name, line: line + offset, text: text)) else { return false }
            }
        }
        return true
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x0D
    }
}
