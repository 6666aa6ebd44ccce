import Glibc
import UnixSignals

/// Ctrl-C at a command that can stop in good order.
enum Interruption {
    /// Runs `body` in a task that the first SIGINT or SIGTERM cancels; the second ends the process at once.
    ///
    /// Tells the result and whether it was interrupted.
    static func run<Result: Sendable>(
        _ body: sending @escaping () async throws -> Result
    ) async throws -> (result: Result, isInterrupted: Bool) {
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
        let work = Task { try await body() }
        let watch = Task {
            var isSecond = false
            for await _ in signals {
                if isSecond { _exit(ExitStatus.interrupted) }
                isSecond = true
                work.cancel()
            }
        }
        defer { watch.cancel() }
        let result = try await work.value
        return (result, work.isCancelled)
    }
}
