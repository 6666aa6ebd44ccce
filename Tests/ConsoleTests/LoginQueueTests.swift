import Testing

@testable import Console

struct LoginQueueTests {
    @Test func `attempts have their turns one second after the other`() {
        let queue = LoginQueue()
        let now = ContinuousClock.now
        let turns = (0..<5).map { _ in queue.turn(of: now) - now }
        #expect(turns == [.zero, .seconds(1), .seconds(2), .seconds(3), .seconds(4)])
        let later = now + .seconds(60)
        #expect(queue.turn(of: later) == later, "an attempt waits for the earlier ones only")
    }

    @Test func `a crowd keeps no attempt waiting for longer than the longest wait`() {
        let queue = LoginQueue()
        let start = ContinuousClock.now
        for millisecond in 0..<10_000 {
            let now = start + .milliseconds(millisecond)
            #expect(queue.turn(of: now) - now <= LoginQueue.longestWait)
        }
    }
}
