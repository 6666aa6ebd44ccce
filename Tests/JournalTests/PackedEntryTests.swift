import EditJob
import TestSupport
import Testing

@testable import Journal

/// Journal entries in one piece of memory each.
struct PackedEntryTests {
    private static let ids = [
        "0f8fad5b-d9cb-469f-a165-70867728950e", "0F8FAD5B-D9CB-469F-A165-70867728950E",
        "0f8fad5bad9cba469faa165a70867728950e", "0f8fad5b-d9cb-469f-a165-70867728950",
        "g0000000-0000-0000-0000-000000000000",
        "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "", "a", "job-1",
        "ffffffffffffffff", "ü-\u{1F600}", String(repeating: "x", count: 255), "------------------------------------",
    ]

    @Test func `an entry comes back as it was, and under its own id only`() {
        var random = SeededGenerator(seed: 6)
        let failure = JobFailure(.apiRejected, "no", charged: .no, httpStatus: 422)
        let states: [JournalEntry.State] = [
            .begun(owner: "this process"), .begun(owner: ""), .retrying, .failed(failure), .refused(failure),
        ]
        for id in Self.ids {
            for state in states + Self.ids.map({ .accepted(taskID: $0) }) {
                let entry = JournalEntry(
                    digest: BodyDigest(value: .random(in: .min ... .max, using: &random)),
                    state: state,
                    attempts: [0, 1, 300, Int(Int32.max)].randomElement(using: &random) ?? 0,
                    replay: [0, 0, 1, .max].randomElement(using: &random) ?? 0,
                    mayBeDuplicate: .random(using: &random),
                    changedAt: .random(in: 0...(1 << 50), using: &random)
                )
                let packed = PackedEntry(entry, of: id)
                #expect(packed.entry == entry)
                #expect(packed.changedAt == entry.changedAt)
                for other in Self.ids {
                    let probe = PackedEntry(probing: other)
                    #expect((packed == probe) == (id == other))
                    if id == other { #expect(packed.hashValue == probe.hashValue) }
                }
            }
        }
    }
}
