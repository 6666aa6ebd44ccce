import ArgumentParser
import Glibc
import NIOConcurrencyHelpers
import SharedValues
import UnixSignals

/// A command that talks to the broker: bounded by `--timeout`, and ended by the first Ctrl-C.
protocol BrokerCommand: AsyncParsableCommand {
    var limits: CommandLimits { get }
    /// Whether it says itself what it means that it was ended.
    static var judgesItsEnd: Bool { get }
}

extension BrokerCommand {
    static var judgesItsEnd: Bool { false }
}

/// How long a command may take.
struct CommandLimits: ParsableArguments {
    @Option(
        help: ArgumentHelp("Maximum time for the whole command, such as 30s. Default: no limit.", valueName: "duration")
    )
    var timeout: String?

    var duration: Duration? { timeout.flatMap { DurationText.parse($0) } }

    func validate() throws {
        if let timeout, DurationText.parse(timeout) == nil {
            throw ValidationError("--timeout '\(timeout)' is not a duration such as 5m")
        }
    }
}

/// The way in which the process of a `BrokerCommand` ends before the command has done all.
///
/// The command's task is cancelled, so that it can end in good order. What it waits for may not end, such as the confirm of a
/// broker that has no memory left: then the process ends after a moment, which is as safe as `kill -9`.
enum CommandEnd {
    enum Cause: Sendable {
        case interrupted
        case timedOut(Duration)
    }

    private struct State {
        var cause: Cause?
        /// Whether the command has come to its end by itself.
        var isOver = false
        var blocked: String?
        /// Whether another program has the terminal, whose Ctrl-C is not ours.
        var isLent = false
        var report: @Sendable () async -> [String] = { [] }
    }

    private static let state = NIOLockedValueBox(State())
    /// A command has this long to end in good order, and then to say what is done: two seconds with what the system needs.
    private static let patience = (end: Duration.milliseconds(1300), report: Duration.milliseconds(300))

    /// Why the command is to end; nil as long as it is not.
    static var cause: Cause? { state.withLockedValue { $0.cause } }

    /// Says what to tell if the process has to end: what is done, what is not, and how to go on.
    static func report(_ lines: @escaping @Sendable () async -> [String]) {
        state.withLockedValue { $0.report = lines }
    }

    /// Runs `body` while another program has the terminal.
    static func lendingTerminal<Result>(_ body: () throws -> Result) rethrows -> Result {
        state.withLockedValue { $0.isLent = true }
        defer { state.withLockedValue { $0.isLent = false } }
        return try body()
    }

    /// Tells that the broker takes nothing, with its reason, or nil that it does again.
    static func brokerBlocks(_ reason: String?) {
        let isNew = state.withLockedValue { state in
            defer { state.blocked = reason }
            return state.blocked != reason
        }
        guard isNew else { return }
        Output.progress("")
        Output.error(
            reason.map {
                "seedream-worker: the broker blocks publishing: \($0). Waiting for it; Ctrl-C ends the command."
            }
                ?? "seedream-worker: the broker takes messages again"
        )
    }

    /// Runs a command to its end, or to the first Ctrl-C, or until its time has passed.
    static func run(_ command: sending any BrokerCommand) async throws {
        let timeout = command.limits.duration
        let judgesItsEnd = type(of: command).judgesItsEnd
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
        let work = Task { [command] in
            var command = command
            try await command.run()
        }
        let watch = Task {
            var isSecond = false
            for await _ in signals where !state.withLockedValue({ $0.isLent }) {
                if isSecond { _exit(ExitStatus.interrupted) }
                isSecond = true
                Task { await end(work, .interrupted) }
            }
        }
        let timer = timeout.map { timeout in
            Task {
                try await Task.sleep(for: timeout)
                // Goes on when this one is cancelled.
                Task { await end(work, .timedOut(timeout)) }
            }
        }
        defer {
            state.withLockedValue { $0.isOver = true }
            watch.cancel()
            timer?.cancel()
        }
        do {
            try await work.value
        } catch let status as ExitCode where cause == nil || judgesItsEnd {
            throw status
        } catch {
            // What was cancelled may fail for that.
            guard cause == nil else { throw statusOfEnd() }
            throw error
        }
        guard cause == nil else { throw statusOfEnd() }
    }

    private static func end(_ work: Task<Void, any Error>, _ cause: Cause) async {
        let isFirst = state.withLockedValue { state in
            defer { state.cause = state.cause ?? cause }
            return state.cause == nil
        }
        guard isFirst else { return }
        work.cancel()
        try? await Task.sleep(for: patience.end)
        let (isOver, report) = state.withLockedValue { ($0.isOver, $0.report) }
        guard !isOver else { return }
        let lines = Task {
            Output.progress("")
            for line in await report() { Output.error(line) }
        }
        Task {
            await lines.value
            _exit(statusOfEnd().rawValue)
        }
        try? await Task.sleep(for: patience.report)
        _exit(statusOfEnd().rawValue)
    }

    /// Says once why the command ends, and gives the status for it.
    private static func statusOfEnd() -> ExitCode {
        guard case .timedOut(let timeout)? = cause else { return ExitCode(ExitStatus.interrupted) }
        let reason = state.withLockedValue { $0.blocked }.map { ": the broker blocks publishing: \($0)" } ?? ""
        Output.error("seedream-worker: not done within \(DurationText.text(timeout))\(reason)")
        return ExitCode(ExitStatus.unavailable)
    }
}
