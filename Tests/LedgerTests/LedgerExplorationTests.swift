import TestSupport
import Testing

@Suite(.ownThread, .timeLimit(.ofLongTests))
struct LedgerExplorationTests {
    /// The larger worlds have a million states and more.
    private static let bounds = TestSize.choose(
        quick: [LedgerExploration.Bounds()],
        usual: [.init(), .init(crashes: 1), .init(expiries: 1, cancellations: 1)],
        full: [
            .init(), .init(expiries: 1, cancellations: 1, unnoticedCuts: 1),
            .init(crashes: 1, expiries: 1, unnoticedCuts: 1), .init(crashes: 1), .init(deletions: 1),
            .init(policyCuts: 1), .init(lostTails: 1), .init(cuts: 1),
            .init(crashes: 1, policyCuts: 1),
        ]
    )
    private static let most = TestSize.choose(quick: 100_000, usual: 100_000, full: 5_000_000)

    @Test(arguments: bounds)
    func `whatever comes in whatever order, two replicas pay for a job once`(_ bounds: LedgerExploration.Bounds) {
        let start = LedgerExploration(replicas: 2, jobs: 1, bounds: bounds)
        // Two of a million worlds have the same hash with a chance of one in 37 million.
        var seen: Set<Int> = [start.hashValue]
        var open = [start]
        while let world = open.popLast() {
            for move in world.moves {
                var next = world
                next.make(move)
                guard next.unmarked.allSatisfy({ $0 <= 1 }) else {
                    Issue.record("paid twice after \(move), state \(seen.count)")
                    return
                }
                guard !next.isBroken else {
                    Issue.record("submitted after its end, after \(move), state \(seen.count)")
                    return
                }
                if seen.insert(next.hashValue).inserted { open.append(next) }
            }
            guard seen.count < Self.most else {
                Issue.record("more than \(Self.most) states with \(bounds)")
                return
            }
        }
        #expect(seen.count > 50)
        print("explored \(bounds): \(seen.count) states")
    }
}
