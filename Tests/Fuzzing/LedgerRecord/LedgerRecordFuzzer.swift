import EditJob
import Fuzzing
import Journal

/// Feeds messages to the ledger: no crash, and what is read comes back from its own text.
private func check(_ bytes: [UInt8]) {
    guard let message = try? LedgerMessage(parsing: bytes) else { return }
    let again = try? LedgerMessage(parsing: message.encoded)
    // Nothing is promised of the words of a kind that is not known.
    let isKnown = message.records.allSatisfy { if case .unknown = $0 { false } else { true } }
    precondition(again == message || !isKnown, "a message that is not what it says")
    var state = LedgerState(retention: 259_200_000)
    var replica = LedgerReplica(name: message.replica, writer: "fuzzer", retention: 259_200_000)
    for offset in [0, Int64.max] {
        _ = state.apply(message, at: offset)
        _ = replica.read(message, at: offset)
    }
    for case .begin(let request) in message.records {
        _ = state.answer(to: request, by: "another", at: message.at)
    }
    state.sweep(now: .max)
    state.sweep(now: .min)
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
