import Foundation
import TestSupport
import Testing

extension ProgramTests {
    /// What the fuzzers have found once, and the inputs that they begin with.
    struct FuzzCorpusTests {
        @Test(
            .serialized,
            arguments: [
                ("job-body-fuzzer", "JobBody"), ("api-answer-fuzzer", "APIAnswer"),
                ("ledger-record-fuzzer", "LedgerRecord"),
            ]
        )
        func `every kept input is dealt with`(_ program: String, _ name: String) async throws {
            let corpus = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("Fuzzing/\(name)/Corpus")
            let executable = URL(fileURLWithPath: Program.path).deletingLastPathComponent()
                .appendingPathComponent(program)
            let outcome = try await Program.run([corpus.path], executable: executable.path)
            #expect(outcome.status == 0, "\(outcome.stderr)")
            #expect(outcome.stdout.contains("inputs") && !outcome.stdout.hasPrefix("0 "))
        }
    }
}
