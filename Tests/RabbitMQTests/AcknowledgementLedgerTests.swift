import RabbitMQ
import TestSupport
import Testing

struct AcknowledgementLedgerTests {
    private typealias Frame = AcknowledgementLedger.Acknowledgement

    /// Opens `open` tags, settles some, rejects some, and gives the frames.
    private static func frames(
        _ ledger: LedgerBox,
        settling settled: [UInt64],
        removing removed: [UInt64] = []
    ) -> [Frame] {
        for number in removed { #expect(ledger.remove(number)) }
        for number in settled { #expect(ledger.settle(number)) }
        return ledger.flush()
    }

    private static func ledger(open count: UInt64) -> LedgerBox {
        let ledger = LedgerBox()
        for number in 1...count { #expect(ledger.opened(number)) }
        return ledger
    }

    @Test func `a run from the lowest tag goes out as one frame`() {
        let ledger = Self.ledger(open: 5)
        #expect(Self.frames(ledger, settling: [3, 1, 2]) == [Frame(number: 3, multiple: true)])
        #expect(ledger.openCount == 2)
        #expect(Self.frames(ledger, settling: [4]) == [Frame(number: 4, multiple: false)])
    }

    @Test func `a slow job holds back nobody`() {
        let ledger = Self.ledger(open: 4)
        #expect(
            Self.frames(ledger, settling: [4, 2])
                == [Frame(number: 4, multiple: false), Frame(number: 2, multiple: false)]
        )
        #expect(Self.frames(ledger, settling: [1, 3]) == [Frame(number: 3, multiple: true)])
        #expect(ledger.openCount == 0)
    }

    @Test func `a multiple ends on a tag that the broker still knows`() {
        let ledger = Self.ledger(open: 4)
        #expect(Self.frames(ledger, settling: [2, 3]).count == 2)
        // 1 closes the run up to 3, but 2 and 3 went out before.
        #expect(Self.frames(ledger, settling: [1]) == [Frame(number: 1, multiple: false)])
        let other = Self.ledger(open: 3)
        #expect(Self.frames(other, settling: [1, 2], removing: [3]) == [Frame(number: 2, multiple: true)])
    }

    @Test func `nothing is settled twice, and nothing unknown`() {
        let ledger = Self.ledger(open: 2)
        #expect(ledger.settle(1))
        #expect(!ledger.settle(1))
        #expect(!ledger.settle(3))
        #expect(!ledger.settle(0))
        #expect(ledger.remove(2))
        #expect(!ledger.settle(2))
        #expect(ledger.flush() == [Frame(number: 1, multiple: false)])
        #expect(!ledger.settle(1))
        #expect(!ledger.opened(5))
    }

    @Test(arguments: 0..<50)
    func `whatever the order, each tag is acknowledged exactly once`(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let ledger = LedgerBox()
        var (next, open, acknowledged): (UInt64, Set<UInt64>, Set<UInt64>) = (1, [], [])
        var unacknowledged: Set<UInt64> = []
        for _ in 0..<2000 {
            if open.count < 40, Bool.random(using: &random) {
                #expect(ledger.opened(next))
                open.insert(next)
                unacknowledged.insert(next)
                next += 1
            } else if let number = open.sorted().randomElement(using: &random) {
                #expect(ledger.settle(number))
                open.remove(number)
            }
            guard Int.random(in: 0..<5, using: &random) == 0 else { continue }
            for frame in ledger.flush() {
                #expect(unacknowledged.contains(frame.number), "the broker would close the channel")
                let hit: Set<UInt64> =
                    frame.multiple ? unacknowledged.filter { $0 <= frame.number } : [frame.number]
                #expect(hit.isDisjoint(with: open), "an open delivery was acknowledged")
                #expect(hit.isDisjoint(with: acknowledged))
                acknowledged.formUnion(hit)
                unacknowledged.subtract(hit)
            }
        }
        for number in open { #expect(ledger.settle(number)) }
        for frame in ledger.flush() {
            acknowledged.formUnion(frame.multiple ? unacknowledged.filter { $0 <= frame.number } : [frame.number])
        }
        #expect(acknowledged.count == Int(next) - 1)
    }
}

/// `#expect` takes no mutating call on a value.
private final class LedgerBox {
    private var ledger = AcknowledgementLedger()
    var openCount: Int { ledger.openCount }
    func opened(_ number: UInt64) -> Bool { ledger.opened(number) }
    func settle(_ number: UInt64) -> Bool { ledger.settle(number) }
    func remove(_ number: UInt64) -> Bool { ledger.remove(number) }
    func flush() -> [AcknowledgementLedger.Acknowledgement] { ledger.flush() }
}
