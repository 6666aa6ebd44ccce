import Dispatch
import NIOConcurrencyHelpers
import NIOPosix
import TestSupport
import Testing
import ThreadExecutor

/// Threads that wake each other.
struct WakeUpsTests {
    @Test func `a thread that jobs wake takes its turn when they are done`() async throws {
        let group = MultiThreadedEventLoopGroup.singleton
        let executor = EventLoopExecutor(group.next())
        let thread = try SocketThread(name: "woken")
        let turns = NIOLockedValueBox(0)
        let turn = DispatchSemaphore(value: 0)
        thread.onTurn {
            turns.withLockedValue { $0 += 1 }
            turn.signal()
            return .forWork
        }
        try await eventually("its first turn") { turns.withLockedValue { $0 } == 1 }
        #expect(Self.comes(turn))
        let cameEarly = await Task(executorPreference: executor) {
            thread.wake()
            return Self.comes(turn)
        }
        .value
        #expect(!cameEarly)
        try await eventually("its turn") { turns.withLockedValue { $0 } == 2 }
        // From everywhere else at once.
        thread.wake()
        try await eventually("its turn") { turns.withLockedValue { $0 } == 3 }
    }

    /// Without suspending; a turn that must not come has no event to wait for.
    private static func comes(_ turn: DispatchSemaphore) -> Bool {
        turn.wait(timeout: .now() + .milliseconds(100)) == .success
    }
}
