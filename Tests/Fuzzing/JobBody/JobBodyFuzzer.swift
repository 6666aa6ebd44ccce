import EditJob
import Fuzzing

/// Feeds bytes to the job's parser and rules: no crash, and what is valid stays the same job after encoding.
private func check(_ bytes: [UInt8]) {
    for policy in UnknownFieldPolicy.allCases {
        guard let job = try? EditJob(parsing: bytes, unknownFields: policy) else { continue }
        let again = try? EditJob(parsing: job.requestBody(), unknownFields: policy)
        precondition(again == job, "the encoded job is another job")
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
enum JobBodyFuzzer {
    static func main() {
        Corpus.replay(check)
    }
}
#endif
