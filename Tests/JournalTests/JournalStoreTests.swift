import EditJob
import Foundation
import Journal
import NIOConcurrencyHelpers
import SharedValues
import TestSupport
import Testing

/// One suite for both stores: what the pipeline relies on.
@Suite(.timeLimit(.minutes(10)))
struct JournalStoreTests {
    enum Store: String, CaseIterable, Sendable {
        case memory
        case sqlite
    }

    private static func with(_ store: Store, _ body: (any SubmissionJournal) async throws -> Void) async throws {
        let journal: any SubmissionJournal =
            switch store {
            case .memory: MemoryJournal()
            case .sqlite: try SQLiteJournal(path: TemporaryFile.path("journal"))
            }
        try await body(journal)
        await journal.close()
    }

    private static func request(
        _ id: String = "j",
        body: String = "b",
        replay: Int64 = 0,
        again: Bool = false,
        elsewhere: Bool = false,
        retries: Bool = false
    ) -> JournalRequest {
        var request = JournalRequest(id: id, digest: BodyDigest(Array(body.utf8)))
        request.replay = replay
        request.acceptsDoubleCharge = replay > 0
        request.takesVerdict = again
        request.mayBeSubmittedElsewhere = elsewhere
        request.retriesUnfinished = retries
        return request
    }

    /// Of the acceptance: the same in every store, to the millisecond.
    private static let moment = Timestamp.now
    private static let accepted = PriorSubmission.accepted(
        taskID: "t",
        attempts: 1,
        mayBeDuplicate: false,
        at: moment
    )
    private static let rejected = JobFailure(.apiRejected, "no", httpStatus: 422)
    private static let parked = JobFailure(.outcomeUnknown, "who knows", charged: .maybe)

    @Test(arguments: Store.allCases)
    func `an accepted job is answered with its task id`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            #expect(try await journal.begin(Self.request()) == .never)
            #expect(try await journal.begin(Self.request()) == .running)
            try await journal.finish("j", .accepted(taskID: "t", at: Self.moment))
            #expect(try await journal.begin(Self.request()) == Self.accepted)
            #expect(try await journal.begin(Self.request(replay: 9, again: true)) == Self.accepted)
        }
    }

    @Test(arguments: Store.allCases)
    func `a replay of an ended task is submitted once, unless it is in doubt`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            _ = try await journal.begin(Self.request())
            try await journal.finish("j", .accepted(taskID: "t", at: Self.moment))
            var replay = Self.request(replay: 1)
            replay.isOfEndedTask = true
            var redelivered = replay
            redelivered.mayBeSubmittedElsewhere = true
            redelivered.replay = 2
            #expect(try await journal.begin(replay) == .possible())
            try await journal.finish("j", .accepted(taskID: "u", at: Self.moment))
            // The same replay once more is no new permission.
            let known = PriorSubmission.accepted(taskID: "u", attempts: 1, mayBeDuplicate: true, at: Self.moment)
            #expect(try await journal.begin(replay) == known)
            // Another worker may have submitted this delivery, and this store may not know.
            guard case .ended(.unknown(let failure), _, _) = try await journal.begin(redelivered) else {
                Issue.record("it must not be submitted")
                return
            }
            #expect(failure.code == .outcomeUnknown)
        }
    }

    @Test(arguments: Store.allCases)
    func `a released job is a new job`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            _ = try await journal.begin(Self.request())
            try await journal.finish("j", .released)
            #expect(try await journal.begin(Self.request(body: "other")) == .never)
        }
    }

    @Test(arguments: Store.allCases)
    func `a doubtful job is submitted again only where a policy or a replay says so`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            _ = try await journal.begin(Self.request())
            try await journal.finish("j", .retrying(attempts: 1))
            // The count of the first is kept, though the copy that would carry it was never seen.
            #expect(try await journal.begin(Self.request()) == .possible(attempts: 1))
            try await journal.finish("j", .failed(Self.parked))
            #expect(try await journal.begin(Self.request()) == .unknown(attempts: 2))
            #expect(try await journal.begin(Self.request(replay: 1)) == .possible())
            try await journal.finish("j", .failed(Self.parked))
            // The same replay once more is no new permission.
            #expect(try await journal.begin(Self.request(replay: 1)) == .unknown(attempts: 1))
            #expect(try await journal.begin(Self.request(replay: 2)) == .possible())
            try await journal.finish("j", .accepted(taskID: "t", at: Self.moment))
            // The mark stays to the end.
            #expect(
                try await journal.begin(Self.request())
                    == .accepted(taskID: "t", attempts: 1, mayBeDuplicate: true, at: Self.moment)
            )
        }
    }

    @Test(arguments: Store.allCases)
    func `a failure is told again to the same delivery, and a new one is a new job`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            _ = try await journal.begin(Self.request())
            try await journal.finish("j", .failed(Self.rejected))
            #expect(
                try await journal.begin(Self.request(again: true))
                    == .failed(Self.rejected, attempts: 1, mayBeDuplicate: false)
            )
            #expect(try await journal.begin(Self.request()) == .never)
            try await journal.finish("j", .failed(Self.rejected))
            #expect(try await journal.begin(Self.request(replay: 1, again: true)) == .never)
        }
    }

    @Test(arguments: Store.allCases)
    func `a job that was delivered before and is not known is in doubt, and stays so`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            let request = Self.request(again: true, elsewhere: true)
            let doubt = PriorSubmission.failed(.deliveredBefore, attempts: 1, mayBeDuplicate: false)
            let first = try await journal.begin(request)
            #expect(first == doubt)
            // The same delivery once more, and then a new publication of the job.
            #expect(try await journal.begin(request) == doubt)
            #expect(try await journal.begin(Self.request()) == .unknown(attempts: 1))
            #expect(try await journal.begin(Self.request(replay: 1)) == .possible())
            let retried = Self.request("other", again: true, elsewhere: true, retries: true)
            #expect(try await journal.begin(retried) == .possible(attempts: 1))
            // A new delivery is no reason for doubt.
            #expect(try await journal.begin(Self.request("third")) == .never)
        }
    }

    @Test(arguments: Store.allCases)
    func `a marked or replayed job that was delivered before is in doubt again`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            _ = try await journal.begin(Self.request())
            try await journal.finish("j", .retrying(attempts: 1))
            let doubt = PriorSubmission.failed(.deliveredBefore, attempts: 1, mayBeDuplicate: true)
            #expect(try await journal.begin(Self.request(again: true, elsewhere: true)) == doubt)
            // Told again, and no reason for another submission.
            #expect(try await journal.begin(Self.request(again: true, elsewhere: true)) == doubt)
            #expect(try await journal.begin(Self.request()) == .unknown(attempts: 1))
            // A replay that was delivered before has used up its permission, also for its copies.
            #expect(try await journal.begin(Self.request(replay: 1, again: true, elsewhere: true)) == doubt)
            #expect(try await journal.begin(Self.request(replay: 1)) == .unknown(attempts: 1))
            #expect(try await journal.begin(Self.request(replay: 2)) == .possible())
            // Where the policy submits again, the doubt is its mark.
            _ = try await journal.begin(Self.request("k"))
            try await journal.finish("k", .retrying(attempts: 1))
            let retried = Self.request("k", again: true, elsewhere: true, retries: true)
            #expect(try await journal.begin(retried) == .possible(attempts: 1))
        }
    }

    @Test(arguments: Store.allCases)
    func `what does not count is not counted in a marked job`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            _ = try await journal.begin(Self.request())
            try await journal.finish("j", .retrying(attempts: 1))
            for _ in 1...3 {
                #expect(try await journal.begin(Self.request()) == .possible(attempts: 1))
                try await journal.finish("j", .retrying(attempts: 1))
            }
        }
    }

    @Test(arguments: Store.allCases)
    func `a refusal whose acknowledgement was lost is told again`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            _ = try await journal.begin(Self.request())
            try await journal.finish("j", .failed(Self.rejected))
            try await journal.acknowledged("j")
            try await journal.acknowledged("nobody")
            let again = Self.request(again: true, elsewhere: true)
            #expect(try await journal.begin(again) == .failed(Self.rejected, attempts: 1, mayBeDuplicate: false))
            #expect(try await journal.begin(Self.request()) == .never)
            // What was not refused for certain is not touched.
            try await journal.finish("j", .accepted(taskID: "t", at: Self.moment))
            try await journal.acknowledged("j")
            #expect(try await journal.begin(again) == Self.accepted)
        }
    }

    @Test func `a refusal that was acknowledged long ago is not told to a new publication that is delivered again`() {
        let again = Self.request(again: true, elsewhere: true)
        func answer(after milliseconds: Int64, _ request: JournalRequest) -> PriorSubmission {
            let refused = JournalEntry(
                digest: request.digest,
                state: .refused(Self.rejected),
                attempts: 1,
                replay: 0,
                mayBeDuplicate: false,
                changedAt: 1_000_000
            )
            return
                JournalEntry.prior(
                    to: request,
                    given: refused,
                    by: "me",
                    now: 1_000_000 + milliseconds,
                    isAlive: { _ in false }
                )
                .prior
        }
        let told = PriorSubmission.failed(Self.rejected, attempts: 1, mayBeDuplicate: false)
        #expect(answer(after: 59_000, again) == told)
        // It may have been submitted elsewhere since; a store that all share would know.
        #expect(
            answer(after: 61_000, again)
                == .failed(.deliveredBefore, attempts: 1, mayBeDuplicate: false)
        )
        #expect(answer(after: 61_000, Self.request(again: true)) == .never)
    }

    @Test func `an id that is refused again and again takes the place of one`() async throws {
        let journal = MemoryJournal()
        for _ in 0..<20_000 {
            #expect(try await journal.begin(Self.request()) == .never)
            try await journal.finish("j", .failed(Self.rejected))
            try await journal.acknowledged("j")
        }
        #expect(journal.count == 1)
        #expect(journal.rowLength < 2000)
        // It is still the oldest, and goes first.
        _ = try await journal.begin(Self.request("other"))
        try await journal.finish("other", .accepted(taskID: "t", at: Self.moment))
        try await journal.sweep(before: .max)
        #expect(journal.count == 0)
    }

    @Test(arguments: Store.allCases)
    func `another body under the same id is a conflict`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            _ = try await journal.begin(Self.request())
            #expect(try await journal.begin(Self.request(body: "other")) == .conflict)
            try await journal.finish("j", .accepted(taskID: "t", at: Self.moment))
            #expect(try await journal.begin(Self.request(body: "other")) == .conflict)
        }
    }

    @Test(arguments: Store.allCases)
    func `what has ended is forgotten after its time, what is under way is not`(_ store: Store) async throws {
        try await Self.with(store) { journal in
            _ = try await journal.begin(Self.request("done"))
            try await journal.finish("done", .accepted(taskID: "t", at: Self.moment))
            _ = try await journal.begin(Self.request("open"))
            try await journal.sweep(before: 0)
            #expect(try await journal.begin(Self.request("done")) == Self.accepted)
            try await journal.sweep(before: .max)
            #expect(try await journal.begin(Self.request("done")) == .never)
            #expect(try await journal.begin(Self.request("open")) == .running)
        }
    }

    @Test func `memory is bounded, and forgets the oldest that have ended`() async throws {
        let journal = MemoryJournal(capacity: 100)
        _ = try await journal.begin(Self.request("open"))
        for index in 0..<5000 {
            _ = try await journal.begin(Self.request("\(index)"))
            try await journal.finish("\(index)", .accepted(taskID: "t", at: Self.moment))
        }
        #expect(journal.count == 100)
        #expect(try await journal.begin(Self.request("open")) == .running)
        #expect(try await journal.begin(Self.request("4999")) == Self.accepted)
        #expect(try await journal.begin(Self.request("0")) == .never)
    }

    @Test func `a file outlives its worker, and a worker that is gone leaves doubt`() async throws {
        let path = TemporaryFile.path("journal")
        var first: SQLiteJournal? = try SQLiteJournal(path: path)
        _ = try await first?.begin(Self.request("done"))
        try await first?.finish("done", .accepted(taskID: "t", at: Self.moment))
        _ = try await first?.begin(Self.request("open"))
        let second = try SQLiteJournal(path: path)
        #expect(try await second.begin(Self.request("done")) == Self.accepted)
        #expect(try await second.begin(Self.request("open")) == .running)
        await first?.close()
        first = nil
        #expect(try await second.begin(Self.request("open")) == .unknown(attempts: 1))
        var retrying = Self.request("open")
        retrying.retriesUnfinished = true
        #expect(try await second.begin(retrying) == .possible(attempts: 1))
        await second.close()
    }

    @Test func `what a worker that is gone has begun is in doubt for the retention only`() async throws {
        let path = TemporaryFile.path("journal")
        var gone: SQLiteJournal? = try SQLiteJournal(path: path)
        _ = try await gone?.begin(Self.request("abandoned"))
        await gone?.close()
        gone = nil
        let journal = try SQLiteJournal(path: path)
        _ = try await journal.begin(Self.request("mine"))
        try await journal.sweep(before: 0)
        #expect(try await journal.begin(Self.request("abandoned")) == .unknown(attempts: 1))
        try await journal.sweep(before: .max)
        #expect(try await journal.begin(Self.request("abandoned")) == .never)
        #expect(try await journal.begin(Self.request("mine")) == .running)
        await journal.close()
    }

    /// Transactions in a database's write-ahead log: the frames that end one say how large the database then is.
    ///
    /// Source: SQLite's file format, §4.1.
    private static func commits(inLogOf path: String) throws -> Int {
        let log = [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(path)-wal")))
        func number(at index: Int) -> Int { log[index..<(index + 4)].reduce(0) { $0 << 8 | Int($1) } }
        return stride(from: 32, to: log.count, by: 24 + number(at: 8)).count { number(at: $0 + 4) != 0 }
    }

    @Test func `entries of concurrent jobs share their disk syncs`() async throws {
        let path = TemporaryFile.path("journal")
        let journal = try SQLiteJournal(path: path)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<500 { group.addTask { _ = try await journal.begin(Self.request("\(index)")) } }
            try await group.waitForAll()
        }
        let commits = try Self.commits(inLogOf: path)
        #expect((1..<100).contains(commits), "\(commits) commits for 500 entries")
        await journal.close()
    }

    @Test func `a file that cannot be used is told with what to do`() async throws {
        let damaged = TemporaryFile.path("journal")
        try Data("this is no database, but long enough to be read as one".utf8).write(to: URL(fileURLWithPath: damaged))
        for (path, text) in [
            ("/no/such/directory/journal", "directory"), (damaged, "no SQLite file"), ("/dev", "/dev"),
        ] {
            let journal = try SQLiteJournal(path: path)
            let fault = try await #require(throws: JournalFault.self) { try await journal.begin(Self.request()) }
            #expect(fault.description.contains(text), "\(fault)")
            #expect(fault.description.contains(path), "\(fault)")
        }
    }

    @Test func `a file that can be used again is opened again`() async throws {
        let path = TemporaryFile.path("journal")
        try Data("this is no database, but long enough to be read as one".utf8).write(to: URL(fileURLWithPath: path))
        let journal = try SQLiteJournal(path: path)
        await #expect(throws: JournalFault.self) { try await journal.begin(Self.request()) }
        try FileManager.default.removeItem(atPath: path)
        #expect(try await journal.begin(Self.request()) == .never)
        await journal.close()
    }

    @Test func `copies of a job wait for the verdict of the first, and take it`() async throws {
        let journal = JobJournal(MemoryJournal())
        let tasks = (0..<20)
            .map { _ in
                Task {
                    try await journal.recording(Self.request()) {
                        ($0, JobEnd.accepted(taskID: "t", at: Self.moment))
                    }
                }
            }
        var answers: [PriorSubmission] = []
        for task in tasks { answers.append(try await task.value) }
        #expect(answers.count { $0 == .never } == 1)
        #expect(answers.count { $0 == Self.accepted } == 19)
    }

    @Test func `after a definite no just one of the copies is submitted`() async throws {
        let journal = JobJournal(MemoryJournal())
        let begun = NIOLockedValueBox(0)
        let tasks = (0..<20)
            .map { _ in
                Task {
                    try await journal.recording(Self.request()) { answer in
                        guard answer.allowsSubmission else { return (answer, .released) }
                        let number = begun.withLockedValue { count in
                            count += 1
                            return count
                        }
                        // The first comes to nothing, and the next one has the place.
                        return (answer, number == 1 ? .released : .accepted(taskID: "t", at: Self.moment))
                    }
                }
            }
        for task in tasks { _ = try await task.value }
        #expect(begun.withLockedValue { $0 } == 2)
    }

    @Test func `a digest is the same everywhere`() {
        #expect(BodyDigest([]).value == 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
        // Source: the reference vectors of FNV-1a for "a".
        #expect(BodyDigest(Array("a".utf8)).value == 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964)
    }
}
