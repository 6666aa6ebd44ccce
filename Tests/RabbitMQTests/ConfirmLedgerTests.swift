import RabbitMQ
import Testing

struct ConfirmLedgerTests {
    @Test func `confirms come one by one, in runs and out of order`() {
        let ledger = ConfirmBox()
        for entry in ["a", "b", "c", "d", "e"] { ledger.append(entry) }
        #expect(ledger.settle(2, multiple: false) == ["b"])
        #expect(ledger.oldest == "a")
        #expect(ledger.settle(4, multiple: true) == ["a", "c", "d"])
        #expect(ledger.settle(4, multiple: true) == [])
        #expect(ledger.settle(9, multiple: false) == [])
        #expect(ledger.count == 1)
        #expect(ledger.settleAll() == ["e"])
        #expect(ledger.oldest == nil)
        ledger.append("f")
        #expect(ledger.settle(6, multiple: false) == ["f"])
    }
}

/// `#expect` takes no mutating call on a value.
private final class ConfirmBox {
    private var ledger = ConfirmLedger<String>()
    var oldest: String? { ledger.oldest }
    var count: Int { ledger.count }
    func append(_ entry: String) { ledger.append(entry) }
    func settle(_ number: UInt64, multiple: Bool) -> [String] { ledger.settle(number, multiple: multiple) }
    func settleAll() -> [String] { ledger.settleAll() }
}
