import Glibc
import NIOConcurrencyHelpers
import SharedValues

/// Where the API's token comes from: a value, or a file that is read again when it changes.
package final class TokenSource: Sendable {
    /// The token cannot be had.
    package struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// What is wrong and what to do.
        package let description: String
    }

    private struct State {
        var token: String
        var stamp: Stamp?
        /// The token that the API has refused last.
        var refused: String?
        /// When the file is looked at again.
        var nextLook = ContinuousClock.now
    }

    /// Between two looks at the file: jobs share one, since each is a system call on the thread that all of them run on.
    ///
    /// A look at a file on a local disk took 0.4 to 0.7 µs (`stat(2)`, a million times), half a percent of a job; on a
    /// network file system it may wait for the server.
    private static let interval = Duration.seconds(1)

    /// What changes when the file does.
    private struct Stamp: Equatable {
        let inode: UInt64
        let seconds: Int
        let nanoseconds: Int
        let size: Int
    }

    private let path: String?
    private let state: NIOLockedValueBox<State>

    /// A token that never changes.
    package init(value: String) {
        path = nil
        state = NIOLockedValueBox(State(token: value))
    }

    /// The token in a file, white space around it removed.
    package init(path: String) throws(Fault) {
        self.path = path
        let stamp = Self.stamp(of: path)
        state = NIOLockedValueBox(State(token: try Self.read(path), stamp: stamp))
    }

    /// The token; a file is looked at once in a second, and read if it has changed.
    ///
    /// A file that is gone or empty for a moment leaves the last token.
    package var token: String {
        guard let path else { return state.withLockedValue { $0.token } }
        let now = ContinuousClock.now
        return state.withLockedValue { state in
            guard now >= state.nextLook else { return state.token }
            state.nextLook = now + Self.interval
            let stamp = Self.stamp(of: path)
            if stamp != state.stamp, let token = try? Self.read(path) {
                state.token = token
                state.stamp = stamp
            }
            return state.token
        }
    }

    /// Whether a token is another than the one that the API has refused last.
    package func isNew(_ token: String) -> Bool { state.withLockedValue { $0.refused != token } }

    /// Notes that the API has refused a token (401): the next use reads the file, whatever its time stamp says.
    package func refuse(_ token: String) {
        state.withLockedValue { state in
            state.refused = token
            state.stamp = nil
            state.nextLook = .now
        }
    }

    private static func stamp(of path: String) -> Stamp? {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        return Stamp(
            inode: UInt64(status.st_ino),
            seconds: status.st_mtim.tv_sec,
            nanoseconds: status.st_mtim.tv_nsec,
            size: Int(status.st_size)
        )
    }

    private static func read(_ path: String) throws(Fault) -> String {
        guard let text = SecretFile.text(at: path) else {
            throw Fault(description: "cannot read \(path); check that it exists and that this user may read it")
        }
        guard let token = SecretFile.token(in: text) else {
            throw Fault(description: "\(path) holds no token; write the token and nothing else into it")
        }
        return token
    }
}
