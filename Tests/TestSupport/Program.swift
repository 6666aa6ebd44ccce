import Foundation
import Glibc
import NIOConcurrencyHelpers

/// The real binary, started by a test.
package final class Program: Sendable {
    /// How a program ended.
    package struct Outcome: Sendable {
        /// The exit status, or the negative number of the signal that ended it.
        package let status: Int32
        package let stdout: String
        package let stderr: String
    }

    /// One start at a time: a child that starts before a pipe is marked would inherit it.
    private static let starting = NIOLock()

    private struct Output {
        var stdout = Data()
        var stderr = Data()
        var ended: Int32?
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let process: NIOLockedValueBox<Process>
    private let input: (reading: FileHandle, writing: FileHandle)
    private let output = NIOLockedValueBox(Output())

    /// Where the binary is: beside the tests, unless the test command says otherwise.
    package static var path: String {
        if let path = ProcessInfo.processInfo.environment["SEEDREAM_TEST_BINARY"] { return path }
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return root.appendingPathComponent(".build/debug/seedream-worker").path
    }

    /// Starts the program, or another executable, with just these variables beside `PATH`.
    package init(_ arguments: [String], environment: [String: String] = [:], executable: String? = nil) throws {
        let process = Process()
        Self.starting.lock()
        defer { Self.starting.unlock() }
        input = try Self.pipe()
        let (out, err) = (try Self.pipe(), try Self.pipe())
        process.executableURL = URL(fileURLWithPath: executable ?? Self.path)
        process.arguments = arguments
        process.environment = environment.merging(["PATH": "/usr/local/bin:/usr/bin:/bin"]) { given, _ in given }
        process.standardInput = input.reading
        process.standardOutput = out.writing
        process.standardError = err.writing
        self.process = NIOLockedValueBox(process)
        let output = output
        let group = DispatchGroup()
        for (handle, path) in [
            (out.reading, \Output.stdout), (err.reading, \Output.stderr),
        ] as [(FileHandle, any WritableKeyPath<Output, Data> & Sendable)] {
            group.enter()
            Thread.detachNewThread {
                // Empty at the end of the file.
                while case let data = handle.availableData, !data.isEmpty {
                    Self.change(output) { $0[keyPath: path].append(data) }
                }
                group.leave()
            }
        }
        group.enter()
        process.terminationHandler = { process in
            let status =
                process.terminationReason == .uncaughtSignal ? -process.terminationStatus : process.terminationStatus
            // The status counts only once all output is there.
            group.notify(queue: .global()) { Self.change(output) { $0.ended = status } }
            group.leave()
        }
        try process.run()
        // The child has its own; while ours are open, no end of file comes.
        for handle in [input.reading, out.writing, err.writing] { try handle.close() }
    }

    /// A pipe that no other child inherits: Foundation's `Pipe` is inherited by every child that starts meanwhile, and
    /// its end of file then waits for all of them.
    private static func pipe() throws -> (reading: FileHandle, writing: FileHandle) {
        var descriptors: [Int32] = [-1, -1]
        guard unsafe Glibc.pipe(&descriptors) == 0 else {
            throw DeadlinePassed(description: "pipe failed with errno \(errno)")
        }
        for descriptor in descriptors { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        return (
            FileHandle(fileDescriptor: descriptors[0], closeOnDealloc: true),
            FileHandle(fileDescriptor: descriptors[1], closeOnDealloc: true)
        )
    }

    private static func change(_ output: NIOLockedValueBox<Output>, _ body: (inout Output) -> Void) {
        let waiters = output.withLockedValue { output in
            body(&output)
            defer { output.waiters = [] }
            return output.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    package var pid: Int32 { process.withLockedValue { $0.processIdentifier } }

    /// What it has written to stdout so far.
    package var stdout: String { output.withLockedValue { String(decoding: $0.stdout, as: UTF8.self) } }

    /// What it has written to stderr so far.
    package var stderr: String { output.withLockedValue { String(decoding: $0.stderr, as: UTF8.self) } }

    /// Writes to its stdin and closes that.
    package func feed(_ text: String) throws {
        try input.writing.write(contentsOf: Data(text.utf8))
        try input.writing.close()
    }

    package func signal(_ number: Int32) {
        kill(pid, number)
    }

    /// Waits until stderr has a text; an error tells what it has instead.
    package func waitForStderr(_ text: String, within limit: Duration = .seconds(60)) async throws {
        try await wait(limit, "\"\(text)\" on stderr") { String(decoding: $0.stderr, as: UTF8.self).contains(text) }
    }

    /// Waits for the end.
    package func outcome(within limit: Duration = .seconds(120)) async throws -> Outcome {
        try await wait(limit, "the end of the program") { $0.ended != nil }
        return output.withLockedValue {
            Outcome(
                status: $0.ended ?? -1,
                stdout: String(decoding: $0.stdout, as: UTF8.self),
                stderr: String(decoding: $0.stderr, as: UTF8.self)
            )
        }
    }

    private func wait(_ limit: Duration, _ what: String, _ isDone: @escaping @Sendable (Output) -> Bool) async throws {
        let output = output
        let timer = Task {
            try await Task.sleep(for: limit)
            Self.change(output) { _ in }
        }
        defer { timer.cancel() }
        let deadline = ContinuousClock.now + limit
        while true {
            let isOver = output.withLockedValue { isDone($0) }
            if isOver { return }
            guard .now < deadline else {
                throw DeadlinePassed(description: "not within \(limit): \(what); stdout: \(stdout); stderr: \(stderr)")
            }
            await withCheckedContinuation { continuation in
                let isOver = output.withLockedValue { output in
                    if isDone(output) || .now >= deadline { return true }
                    output.waiters.append(continuation)
                    return false
                }
                if isOver { continuation.resume() }
            }
        }
    }

    /// Runs the program to its end.
    package static func run(
        _ arguments: [String],
        environment: [String: String] = [:],
        stdin: String = "",
        executable: String? = nil,
        within limit: Duration = .seconds(120)
    ) async throws -> Outcome {
        let program = try Program(arguments, environment: environment, executable: executable)
        try program.feed(stdin)
        return try await program.outcome(within: limit)
    }
}
