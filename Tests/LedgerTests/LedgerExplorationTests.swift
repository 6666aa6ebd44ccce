import Foundation
import TestSupport
import Testing

@Suite(.ownThread, .timeLimit(.minutes(20)))
struct LedgerExplorationTests {
    /// With SEEDREAM_LEDGER_STATES, as many states at most, the larger worlds are explored too; some have a million.
    private static let most = ProcessInfo.processInfo.environment["SEEDREAM_LEDGER_STATES"].flatMap { Int($0) }
    private static let bounds: [LedgerExploration.Bounds] =
        [.init(), .init(crashes: 1)]
        + (most == nil
            ? []
            : [
                .init(deletions: 1), .init(policyCuts: 1), .init(lostTails: 1), .init(cuts: 1),
                .init(crashes: 1, policyCuts: 1),
            ])

    @Test(arguments: bounds)
    func `whatever comes in whatever order, two replicas pay for a job once`(_ bounds: LedgerExploration.Bounds) {
        let most = Self.most ?? 100_000
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
                if seen.insert(next.hashValue).inserted { open.append(next) }
            }
            guard seen.count < most else {
                Issue.record("more than \(most) states with \(bounds)")
                return
            }
        }
        #expect(seen.count > 50)
        print("explored \(bounds): \(seen.count) states")
    }
}
