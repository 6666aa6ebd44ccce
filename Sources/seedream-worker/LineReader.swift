import ArgumentParser
import Glibc
import SharedValues
import SystemPackage

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
            if let end = endOfLine {
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

    /// Reads a text that is there already.
    init(_ text: [UInt8], name: String) {
        self.name = name
        descriptor = STDIN_FILENO
        buffer = text
        isAtEnd = true
    }

    /// All that has not been read yet.
    func rest() throws -> [UInt8] {
        while !isAtEnd { try fill() }
        defer { start = buffer.count }
        return Array(buffer[start...])
    }

    /// Whether it can be read again from its beginning.
    var isRegularFile: Bool {
        var status = stat()
        return unsafe fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
            && descriptor != STDIN_FILENO
    }

    private var endOfLine: Int? {
        unsafe buffer.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress,
                let end = unsafe memchr(base + start, Int32(UInt8(ascii: "\n")), bytes.count - start)
            else { return nil }
            return unsafe UnsafeRawPointer(end) - base
        }
    }

    private func fill() throws {
        buffer.removeFirst(start)
        start = 0
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        do throws(Errno) {
            let count = try FileDescriptor(rawValue: descriptor).read(into: &chunk)
            isAtEnd = count == 0
            buffer += chunk[..<count]
        } catch {
            throw ValidationError("cannot read \(name): \(error)")
        }
    }

    func close() {
        if descriptor != STDIN_FILENO { _ = Glibc.close(descriptor) }
    }
}
