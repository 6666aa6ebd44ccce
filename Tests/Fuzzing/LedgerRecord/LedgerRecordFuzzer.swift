import EditJob
import Fuzzing
import Ledger
import SharedValues

private let start = ContinuousClock.now

/// Feeds messages to the ledger: no crash, and what is read comes back from its own text.
private func check(_ bytes: [UInt8]) {
    guard let message = try? LedgerMessage(parsing: bytes) else { return }
    let again = try? LedgerMessage(parsing: message.encoded)
    // Nothing is promised of the words of a kind that is not known.
    let isKnown = message.records.allSatisfy { if case .unknown = $0 { false } else { true } }
    precondition(again == message || !isKnown, "a message that is not what it says")
    var state = LedgerState(retention: 259_200_000)
    var options = LedgerReplica.Options(
        name: "fuzzer",
        writer: "fuzzer",
        greeting: LedgerGreeting(version: "1", settings: [:]),
        startedAt: 0,
        retention: .seconds(259_200),
        patience: .seconds(40)
    )
    options.rateLimit = RateLimit("20/10s")
    options.budget = RateLimit("500/24h")
    var replica = LedgerReplica(options)
    var now = LedgerMoment(monotonic: start, wall: 1_700_000_000_000)
    func tell(_ event: LedgerEvent) { _ = replica.handle(event, at: now) }
    tell(.connected(link: 1, user: nil))
    tell(.sawJobs(.seen(ready: 0, consumers: 0), link: 1))
    tell(.confirmed(0, link: 1))
    for offset in [0, 1, Int64.max] {
        _ = state.apply(message, at: offset)
        tell(.read(bytes, user: nil, at: offset, link: 1))
        now.monotonic += .seconds(60)
        tell(.tick(gate: nil, isBlocked: false))
    }
    tell(.wantsStart(waiting: 3))
    tell(.disconnected(link: 1, isSilent: false))
    tell(.connected(link: 2, user: nil))
    tell(.saw(nil, at: nil, link: 2))
    for case .begin(let request) in message.records {
        _ = state.answer(to: request, by: "another", at: message.at)
    }
    state.sweep(now: .max, first: .max)
    state.sweep(now: .min, first: 0)
    precondition(state.count >= 0, "fewer than none")
}

#if FUZZING
/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOne(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    unsafe check(Array(UnsafeBufferPointer(start: start, count: count)))
    return 0
}
#else
/// Runs the kept findings again.
@main
enum LedgerRecordFuzzer {
    static func main() {
        Corpus.replay(check)
    }
}
#endif
