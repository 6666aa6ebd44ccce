import Fuzzing
import SeedreamAPI

/// Feeds statuses, fields and bodies to the outcome table: no crash, and no acceptance without a success.
private func check(_ bytes: [UInt8]) {
    guard bytes.count >= 3 else { return }
    let status = 100 + (Int(bytes[0]) << 8 | Int(bytes[1])) % 600
    let length = min(Int(bytes[2]) % 64, bytes.count - 3)
    let field = String(decoding: bytes[3..<(3 + length)], as: UTF8.self)
    let body = Array(bytes[(3 + length)...])
    let answer = APIAnswer(status: status, retryAfter: field, date: field, body: .complete(body))
    let outcome = OutcomeTable.outcome(of: .answered(answer))
    if case .accepted(let taskID, _) = outcome {
        precondition((200...299).contains(status) && !taskID.isEmpty, "an acceptance without a success")
    }
    // White space at the front takes the answer from the way of plain ones to Jansson.
    let spaced = APIAnswer(status: status, retryAfter: field, date: field, body: .complete([0x20] + body))
    precondition(OutcomeTable.outcome(of: .answered(spaced)) == outcome, "a plain answer means something else")
    if case .completed(let urls) = TaskStatusTable.status(of: .answered(answer)) {
        precondition((200...299).contains(status) && !urls.isEmpty, "images without a success")
        precondition(urls.allSatisfy { $0.lowercased().hasPrefix("http") }, "an image that is nowhere")
    }
    let long = APIAnswer(status: 429, retryAfter: field, date: "Sun, 06 Nov 1994 08:49:37 GMT", body: .complete(body))
    if case .serviceFault(let fault) = OutcomeTable.outcome(of: .answered(long)), let wait = fault.retryAfter {
        precondition(wait >= .zero && wait <= .seconds(86_400), "a wait out of bounds")
    }
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
enum APIAnswerFuzzer {
    static func main() {
        Corpus.replay(check)
    }
}
#endif
