import EditWorker
import Glibc
import NIOConcurrencyHelpers
import Telemetry
import TestSupport
import Testing

/// The log's way out, read by a test instead of a person.
@Suite(.timeLimit(.minutes(10)))
struct LogLinesTests {
    /// A pipe: what is written into it, and what of it was read.
    private static func withPipe(_ body: (_ reading: CInt, _ writing: CInt) async throws -> Void) async throws {
        var ends: [CInt] = [0, 0]
        #expect(unsafe pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        try await body(ends[0], ends[1])
    }

    private static func read(_ descriptor: CInt, _ count: Int) -> String {
        var bytes = [UInt8](repeating: 0, count: count)
        let read = unsafe Glibc.read(descriptor, &bytes, count)
        return String(decoding: bytes.prefix(max(0, read)), as: UTF8.self)
    }

    private static func reader(of descriptor: CInt, until end: String) -> Task<String, Never> {
        Task.detached {
            var seen = ""
            while !seen.hasSuffix(end) { seen += read(descriptor, 65536) }
            return seen
        }
    }

    @Test func `lines come in their order, each whole`() async throws {
        try await Self.withPipe { reading, writing in
            let lines = LogLines(writing)
            for number in 0..<1000 { lines.write("line \(number)") }
            lines.flush(within: .seconds(20))
            let text = (0..<1000).map { "line \($0)\n" }.joined()
            var seen = ""
            while seen.utf8.count < text.utf8.count { seen += Self.read(reading, 65536) }
            #expect(seen == text)
        }
    }

    @Test func `a log that nobody reads keeps nobody waiting, and says what it has dropped`() async throws {
        try await Self.withPipe { reading, writing in
            let lines = LogLines(writing)
            let dropped = NIOLockedValueBox(0)
            lines.onDrop { count in dropped.withLockedValue { $0 += count } }
            // More than the pipe, the thread and the lines that may wait hold together.
            let line = String(repeating: "x", count: 1023)
            for _ in 0..<4096 { lines.write(line) }
            let lost = dropped.withLockedValue { $0 }
            #expect(lost > 1000 && lost < 4096)
            // Somebody reads again, and the last line is sure to come.
            let reader = Self.reader(of: reading, until: "last\n")
            lines.flush(within: .seconds(20))
            lines.write("last")
            let seen = await reader.value.split(separator: "\n")
            #expect(seen.count { $0.hasPrefix("x") } == 4096 - lost)
            let told = seen.filter { $0.hasPrefix("seedream-worker: ") }.compactMap { $0.split(separator: " ")[1] }
            #expect(told.compactMap { Int($0) }.reduce(0, +) == lost)
        }
    }

    @Test func `a log that is closed is nobody's problem`() async throws {
        try await Self.withPipe { _, writing in
            let closed = dup(writing)
            close(closed)
            let lines = LogLines(closed)
            lines.write("x")
            lines.flush(within: .seconds(20))
        }
    }
}
