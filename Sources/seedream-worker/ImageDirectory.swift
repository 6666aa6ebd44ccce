import Glibc
import SharedValues
import SystemPackage

/// Where downloaded images go: names and types of its own choice, never outside the directory and never over a file.
struct ImageDirectory: Sendable {
    /// An image cannot be kept.
    struct Fault: Error, CustomStringConvertible {
        let description: String
    }

    /// There is a file of that name already.
    struct Exists: Error, CustomStringConvertible {
        let file: String

        var description: String { "\(file) is there already and was left as it is" }
    }

    private static let longestName = 150

    let path: String

    /// Takes a directory, which is made if it is missing.
    init(_ path: String) throws(Fault) {
        self.path = path
        guard unsafe mkdir(path, 0o755) == 0 || errno == EEXIST, unsafe access(path, W_OK | X_OK) == 0 else {
            throw Fault(description: "cannot write into \(path): \(Self.reason); give another directory")
        }
    }

    /// Keeps an image.
    ///
    /// Throws `Exists` if there is a file of that name already, which stays as it is.
    func keep(_ bytes: [UInt8], of jobID: String, number: Int) throws {
        guard let type = Self.type(of: bytes) else {
            throw Fault(description: "what came is no PNG, JPEG, WebP or GIF image")
        }
        let name = "\(Self.name(jobID))-\(number).\(type)"
        let file = "\(path)/\(name)"
        let part = "\(path)/.\(name).\(getpid()).part"
        let descriptor: FileDescriptor
        do {
            descriptor = try .open(
                FilePath(part),
                .writeOnly,
                options: [.create, .exclusiveCreate, .closeOnExec, .noFollow],
                permissions: [.ownerReadWrite, .groupRead, .otherRead]
            )
        } catch {
            throw Fault(description: "cannot write \(file): \(error)")
        }
        defer {
            try? descriptor.close()
            _ = unsafe unlink(part)
        }
        do { try descriptor.writeAll(bytes) } catch { throw Fault(description: "cannot write \(file): \(error)") }
        // Whole or not at all, and never over another one: `rename` would replace it.
        guard unsafe link(part, file) == 0 else {
            if errno == EEXIST { throw Exists(file: file) }
            throw Fault(description: "cannot write \(file): \(Self.reason)")
        }
    }

    /// The image of that job and number that is there, of whatever type; nil if there is none.
    func file(of jobID: String, number: Int) -> String? {
        let base = "\(path)/\(Self.name(jobID))-\(number)"
        return ["png", "jpg", "webp", "gif"].map { "\(base).\($0)" }.first { unsafe access($0, F_OK) == 0 }
    }

    /// A job's id as a file name: anybody can write anything into it.
    private static func name(_ jobID: String) -> String {
        let plain = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.".utf8)
        var name = PercentEncoding.encode(jobID.utf8.prefix(longestName)) { !plain.contains($0) }
        // Neither hidden nor a way upwards.
        while name.hasPrefix(".") { name = "%2E" + name.dropFirst() }
        return name.count > longestName ? String(name.prefix(longestName)) : name.isEmpty ? "job" : name
    }

    /// The type by the content; a server may say anything.
    private static func type(of bytes: [UInt8]) -> String? {
        if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) { return "png" }
        if bytes.starts(with: [0xFF, 0xD8, 0xFF]) { return "jpg" }
        if bytes.starts(with: "GIF8".utf8) { return "gif" }
        if bytes.starts(with: "RIFF".utf8), bytes.dropFirst(8).starts(with: "WEBP".utf8) { return "webp" }
        return nil
    }

    private static var reason: String { unsafe String(cString: strerror(errno)) }
}
