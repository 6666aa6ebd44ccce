import NIOConcurrencyHelpers
package import Testing

/// Lets tests of the whole program run beside each other, as many as the machine bears.
///
/// Each has a virtual host, ports and files of its own, and most of the time it waits. A test that has to wait for its turn
/// does so before its time limit begins.
package struct ProgramTurn: SuiteTrait, TestTrait, TestScoping {
    /// What a test loads the machine with.
    package enum Lane: Int, Sendable {
        /// Workers, and a sandbox.
        case programs
        /// A broker or a browser too.
        case machines

        /// As many at once.
        fileprivate var width: Int {
            switch self {
            case .programs: 4
            case .machines: 3
            }
        }
    }

    private struct Turns {
        var taken = 0
        var waiting: [(width: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private static let lanes = NIOLockedValueBox<[Lane: Turns]>([:])

    private let lane: Lane
    /// What it takes of its lane.
    private let width: Int

    package init(_ lane: Lane, width: Int = 1) {
        self.lane = lane
        self.width = min(width, lane.width)
    }

    package var isRecursive: Bool { true }

    /// One turn per test, with all its arguments: that of the test, if its suite names another.
    package func scopeProvider(for test: Test, testCase: Test.Case?) -> Self? {
        guard testCase == nil, !test.isSuite else { return nil }
        let heaviest = test.traits.compactMap { $0 as? Self }
            .max { ($0.lane.rawValue, $0.width) < ($1.lane.rawValue, $1.width) }
        return heaviest.map { $0.lane == lane && $0.width == width } == true ? self : nil
    }

    package func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        await withCheckedContinuation { continuation in
            change { $0.waiting.append((width, continuation)) }
        }
        defer { change { $0.taken -= width } }
        try await function()
    }

    private func change(_ body: (inout Turns) -> Void) {
        let next = Self.lanes.withLockedValue { lanes in
            var turns = lanes[lane, default: Turns()]
            defer { lanes[lane] = turns }
            body(&turns)
            var next: [CheckedContinuation<Void, Never>] = []
            // What takes most goes first: it takes longest, and must not be left over at the end.
            while let widest = turns.waiting.map(\.width).max(), turns.taken + widest <= lane.width,
                let place = turns.waiting.firstIndex(where: { $0.width == widest })
            {
                turns.taken += widest
                next.append(turns.waiting.remove(at: place).continuation)
            }
            return next
        }
        for continuation in next { continuation.resume() }
    }
}

extension Trait where Self == ProgramTurn {
    /// For tests that start the program.
    package static var program: ProgramTurn { ProgramTurn(.programs) }
    /// For those that start a broker or a browser too.
    package static var machine: ProgramTurn { ProgramTurn(.machines) }
    /// For those that start a cluster.
    package static var cluster: ProgramTurn { ProgramTurn(.machines, width: 2) }
}
