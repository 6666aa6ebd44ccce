import TestSupport
import Testing

@Suite(.ownThread, .timeLimit(.ofLongTests))
struct LedgerSimulationTests {
    private static let schedules: UInt64 = TestSize.choose(quick: 250, usual: 800, full: 100_000)

    @Test func `no schedule of crashes, delays and partitions pays for a job twice unseen, or loses one`() throws {
        var total = LedgerSimulation.Tally()
        for seed in 0..<Self.schedules {
            var simulation = LedgerSimulation(seed: seed)
            do {
                try simulation.run()
            } catch {
                Issue.record("seed \(seed): \(error)")
                return
            }
            total += simulation.tally
        }
        print("\(Self.schedules) schedules: \(total)")
        // Something must have happened in them.
        #expect(total.submissions > Int(Self.schedules), "\(total)")
        #expect(total.accepted > total.submissions / 2, "\(total)")
        #expect(total.crashes > Int(Self.schedules) / 10, "\(total)")
        #expect(total.losses > Int(Self.schedules) / 10, "\(total)")
        #expect(total.unknown > 0, "\(total)")
    }

    @Test(arguments: LedgerSimulation.Mutation.allCases)
    func `a rule that is broken is missed`(_ mutation: LedgerSimulation.Mutation) {
        for seed in 0..<3000 {
            var simulation = LedgerSimulation(seed: UInt64(seed), mutation: mutation)
            do { try simulation.run() } catch { return }
        }
        Issue.record("nobody missed \(mutation.rawValue)")
    }
}
