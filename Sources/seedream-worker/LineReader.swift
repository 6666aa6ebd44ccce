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

    /// Reads an open file from its beginning, and leaves it open.
    init(rereading descriptor: Int32, name: String) {
        self.name = name
        self.descriptor = dup(descriptor)
        lseek(self.descriptor, 0, SEEK_SET)
    }

    /// Whether it can be read again from its beginning.
    var isRegularFile: Bool {
        var status = stat()
        return unsafe fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
            && descriptor != STDIN_FILENO
    }

    /// The next bytes of the file, at most as many as `chunk` holds, none at its end.
    func readChunk(_ chunk: inout [UInt8]) throws -> Int {
        do throws(Errno) {
            return try FileDescriptor(rawValue: descriptor).read(into: &chunk)
        } catch {
            throw ValidationError("cannot read \(name): \(error)")
        }
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
        let count = try readChunk(&chunk)
        isAtEnd = count == 0
        buffer += chunk[..<count]
    }

    func close() {
        if descriptor != STDIN_FILENO { _ = Glibc.close(descriptor) }
    }
}
