import Glibc
import NIOConcurrencyHelpers
import SharedValues
import SystemPackage
import ThreadExecutor

/// The lines of the log on their way out: a log that is not read must not stop a job.
///
/// A thread of its own writes them. What waits for it is bounded; beyond that lines are dropped and counted.
package final class LogLines: Sendable {
    private struct State {
        var waiting: [UInt8] = []
        var isWriting = false
        var dropped = 0
        /// Dropped since the log was told of it.
        var untold = 0
        var onDrop: (@Sendable (Int) -> Void)?
    }

    /// Some thousand lines.
    private static let mostWaiting = 1 << 20

    private let descriptor: CInt
    private let state = NIOLockedValueBox(State())
    /// Nil if the system has no thread left: then the caller of `write` waits.
    private let thread: SocketThread?

    /// Lines for a file descriptor, which must stay open.
    package init(_ descriptor: CInt) {
        self.descriptor = descriptor
        thread = try? SocketThread(name: "log")
        thread?
            .onTurn { [weak self] in
                self?.writeWaiting()
                return .forWork
            }
    }

    /// Tells of lines that were dropped, those before included.
    package func onDrop(_ tell: @escaping @Sendable (_ count: Int) -> Void) {
        let dropped = state.withLockedValue { state in
            state.onDrop = tell
            return state.dropped
        }
        if dropped > 0 { tell(dropped) }
    }

    /// Leaves a line to be written; never waits for who reads it.
    package func write(_ line: String) { write(Array(line.utf8)) }

    package func write(_ line: [UInt8]) {
        let tell: (@Sendable (Int) -> Void)? = state.withLockedValue { state in
            guard state.waiting.count + line.count <= Self.mostWaiting else {
                state.dropped += 1
                state.untold += 1
                return state.onDrop
            }
            if state.untold > 0 {
                state.waiting +=
                    "seedream-worker: \(state.untold) log lines were dropped: they were not read in time\n".utf8
                state.untold = 0
            }
            state.waiting += line
            state.waiting.append(UInt8(ascii: "\n"))
            return nil
        }
        tell?(1)
        if let thread { thread.wake() } else { writeWaiting() }
    }

    /// Waits until all is written, but no longer than `limit`.
    package func flush(within limit: Duration) {
        let deadline = ContinuousClock.now + limit
        while .now < deadline, state.withLockedValue({ $0.isWriting || !$0.waiting.isEmpty }) { usleep(1000) }
    }

    private func writeWaiting() {
        while true {
            let bytes = state.withLockedValue { state in
                state.isWriting = !state.waiting.isEmpty
                defer { state.waiting = [] }
                return state.waiting
            }
            guard !bytes.isEmpty else { return }
            // A closed log is not this code's problem.
            try? FileDescriptor(rawValue: descriptor).writeWaiting(bytes)
        }
    }
}
