import Ledger
import Testing

/// Who is gone, at moments that the test moves.
struct ReplicaSilenceTests {
    private struct Scene {
        var silence = ReplicaSilence(patience: .seconds(40))
        var now = ContinuousClock.now

        /// A heartbeat that is written when it is due and comes back at once.
        mutating func beat(after wait: Duration = .seconds(10)) {
            now += wait
            silence.sent(at: now)
            silence.readBack(publishedAt: now, at: now)
        }
    }

    @Test func `a replica is gone after four heartbeats without a word, and lives with one`() {
        var scene = Scene()
        scene.beat()
        scene.silence.heard(from: "b")
        for _ in 0..<3 {
            scene.beat()
            #expect(!scene.silence.isGone("b"))
        }
        scene.beat()
        #expect(scene.silence.isGone("b"))
        // One that was never heard of on this connection has been silent as long.
        #expect(scene.silence.isGone("c"))
        scene.silence.heard(from: "b")
        #expect(!scene.silence.isGone("b"))
    }

    @Test func `reports that come too early, or were queued, count for nothing`() {
        var scene = Scene()
        scene.beat()
        // Every other one was written less than ten seconds after the last that counted was read back.
        for _ in 0..<7 { scene.beat(after: .seconds(9)) }
        #expect(!scene.silence.isGone("b"))
        scene.beat(after: .seconds(9))
        #expect(scene.silence.isGone("b"))
        var queued = Scene()
        queued.beat()
        // All written while nothing came back, and read back together much later: one of them counts.
        let written = queued.now
        queued.now += .seconds(3600)
        for number in 0..<20 {
            queued.silence.readBack(publishedAt: written + .seconds(10 * number), at: queued.now)
        }
        #expect(!queued.silence.isGone("b"))
    }

    @Test func `a time in which nothing comes back counts for nobody`() {
        var scene = Scene()
        scene.beat()
        scene.silence.sent(at: scene.now)
        scene.now += .seconds(3600)
        #expect(!scene.silence.isDue(at: scene.now))
        #expect(scene.silence.waiting(at: scene.now) == .seconds(3600))
        #expect(!scene.silence.isGone("b"))
        // Nor does another connection know what was silent on this one.
        for _ in 0..<4 { scene.beat() }
        scene.silence.connected()
        #expect(!scene.silence.isGone("b"))
        #expect(scene.silence.isDue(at: scene.now))
    }

    @Test func `a patience that is no whole number of heartbeats is rounded up`() {
        var scene = Scene()
        scene.silence = ReplicaSilence(patience: .seconds(41))
        scene.beat()
        for _ in 0..<4 { scene.beat() }
        #expect(!scene.silence.isGone("b"))
        scene.beat()
        #expect(scene.silence.isGone("b"))
    }
}
