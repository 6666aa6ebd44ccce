import Glibc
package import SystemPackage

extension FileDescriptor {
    /// Writes all of the bytes; waits while the descriptor takes none, also one that another program has made non-blocking.
    ///
    /// Source: `write(2)`, `poll(2)`.
    package func writeWaiting(_ bytes: [UInt8]) throws(Errno) {
        var rest = bytes[...]
        while !rest.isEmpty {
            do {
                rest = rest.dropFirst(try unsafe rest.withUnsafeBytes { try unsafe write($0) })
            } catch let fault as Errno where fault == .wouldBlock {
                var waiting = pollfd(fd: rawValue, events: Int16(POLLOUT), revents: 0)
                _ = unsafe poll(&waiting, 1, -1)
            } catch {
                throw error as? Errno ?? .ioError
            }
        }
    }

    /// Reads what is there into `chunk`; returns how many bytes, 0 at the end.
    package func read(into chunk: inout [UInt8]) throws(Errno) -> Int {
        do {
            return try unsafe chunk.withUnsafeMutableBytes { try unsafe read(into: $0) }
        } catch {
            throw error as? Errno ?? .ioError
        }
    }
}
