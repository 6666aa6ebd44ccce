import EditJob
import EditWorker
import RabbitMQ
import SeedreamAPI
import SharedValues
import Testing

/// What comes after a look, as a table.
struct FollowPolicyTests {
    private static let policy = FollowPolicy(
        choice: .asked,
        delays: [.seconds(3), .seconds(10), .seconds(30)],
        deadline: .seconds(900)
    )

    private static func job(_ headers: FieldTable) -> ReceivedJob {
        var properties = MessageProperties()
        properties.headers = headers
        properties.messageID = "j"
        let delivery = Delivery(
            tag: DeliveryTag(epoch: 1, number: 1),
            routingKey: "q.follow",
            properties: properties,
            body: []
        )
        return ReceivedJob(delivery) { "fresh" }
    }

    private static func task(_ headers: FieldTable = [:]) throws -> FollowedTask {
        var headers = headers
        headers["x-task-id"] = .text("t")
        if headers["x-submitted-at"] == nil { headers["x-submitted-at"] = .text(submitted.description) }
        return try #require(FollowedTask(job(headers)))
    }

    private static let submitted = Timestamp(milliseconds: 1_700_000_000_000)

    /// What comes after a look at a task of that age.
    private static func next(
        after status: TaskStatus,
        of task: FollowedTask,
        age: Duration,
        seen: String = "s"
    ) -> FollowPolicy.Next {
        let now = Timestamp(milliseconds: task.followedSince.milliseconds + age.wholeMilliseconds)
        return policy.next(after: status, of: task, at: now, seen: seen)
    }

    private static func misses(_ change: (inout FollowedTask.Misses) -> Void = { _ in }) -> FollowedTask.Misses {
        var misses = FollowedTask.Misses()
        misses.last = "s"
        change(&misses)
        return misses
    }

    @Test func `the wait grows with the age of the task`() throws {
        let task = try Self.task()
        for (age, wait) in [(0, 3), (29, 3), (30, 10), (119, 10), (120, 30), (899, 30)] as [(Int64, Int64)] {
            let next = Self.next(after: .running, of: task, age: .seconds(age))
            #expect(next == .wait(.seconds(wait), Self.misses()), "\(age)")
        }
    }

    @Test func `after the deadline nobody looks, but what is ready is told`() throws {
        let task = try Self.task()
        guard case .failed(let failure) = Self.next(after: .running, of: task, age: .seconds(900)) else {
            Issue.record("still followed")
            return
        }
        #expect(failure.code == .followTimeout && failure.charged == .maybe)
        #expect(Self.next(after: .completed(["u"]), of: task, age: .seconds(9000)) == .completed(["u"]))
    }

    @Test func `a result that cannot be read counts in a row`() throws {
        for count in 0..<3 {
            let task = try Self.task(["x-follow-unreadable": .int32(Int32(count))])
            let next = Self.next(after: .unreadable, of: task, age: .seconds(1))
            if case .failed = next { #expect(count == 2) } else { #expect(count < 2) }
        }
        let task = try Self.task(["x-follow-unreadable": .int32(2), "x-follow-missing": .int32(2)])
        #expect(Self.next(after: .running, of: task, age: .zero) == .wait(.seconds(3), Self.misses()))
    }

    @Test(arguments: [(3, 600, false), (4, 179, false), (4, 180, true), (40, 100, false), (0, 600, false)])
    func `a task is lost after five looks in a row, and three minutes`(
        _ count: Int,
        _ seconds: Int64,
        _ isLost: Bool
    ) throws {
        let task = try Self.task([
            "x-follow-missing": .int32(Int32(count)), "x-follow-missing-since": .text(Self.submitted.description),
        ])
        switch Self.next(after: .notFound(isOfAPI: true), of: task, age: .seconds(seconds)) {
        case .failed(let failure): #expect(isLost && failure.code == .taskNotFound)
        case .wait(_, let misses): #expect(!isLost && misses.missing == count + 1)
        case .completed: Issue.record("completed")
        }
    }

    @Test func `the end tells what the last look saw`() throws {
        let status = TaskStatus.noAnswer(retryAfter: nil, isTokenRefused: false)
        let next = Self.next(after: status, of: try Self.task(), age: .seconds(900), seen: "HTTP status 503")
        guard case .failed(let failure) = next else {
            Issue.record("still followed")
            return
        }
        #expect(failure.code == .followTimeout && failure.message.contains("HTTP status 503"))
    }

    @Test func `a wait that the API asks for is kept beyond the deadline`() throws {
        let status = TaskStatus.noAnswer(retryAfter: .seconds(600), isTokenRefused: false)
        guard case .wait(_, let misses) = Self.next(after: status, of: try Self.task(), age: .seconds(890)) else {
            Issue.record("not followed")
            return
        }
        #expect(misses.notBefore == Timestamp(milliseconds: Self.submitted.milliseconds + 1_490_000))
    }

    @Test func `a task that a person wants to be looked at again is followed from then on`() throws {
        let since = Timestamp(milliseconds: Self.submitted.milliseconds + 86_400_000)
        let task = try Self.task(["x-follow-since": .text(since.description)])
        #expect(task.submittedAt == Self.submitted && task.followed(at: since) == .zero)
        #expect(Self.policy.next(after: .running, of: task, at: since, seen: "s") == .wait(.seconds(3), Self.misses()))
    }

    @Test func `no look is sooner than the API wants`() throws {
        let task = try Self.task()
        let status = TaskStatus.noAnswer(retryAfter: .seconds(20), isTokenRefused: false)
        guard case .wait(let wait, let misses) = Self.next(after: status, of: task, age: .zero) else {
            Issue.record("not followed")
            return
        }
        #expect(wait == .seconds(30) && misses.notBefore != nil)
        let short = TaskStatus.noAnswer(retryAfter: .seconds(1), isTokenRefused: false)
        #expect(Self.next(after: short, of: task, age: .zero) == .wait(.seconds(3), Self.misses()))
    }

    @Test func `only those who ask are followed, unless all are`() {
        let asked = Self.job(["x-follow": .boolean(true)])
        let other = Self.job([:])
        #expect(Self.policy.follows(asked) && !Self.policy.follows(other))
        let all = FollowPolicy(choice: .all, delays: [.seconds(1)], deadline: .seconds(1))
        #expect(all.follows(other))
        let none = FollowPolicy(choice: .none, delays: [.seconds(1)], deadline: .seconds(1))
        #expect(!none.follows(asked))
    }

    @Test(
        arguments: [
            (.boolean(true), true), (.int32(1), true), (.text("true"), true), (.text("1"), true), (.text("YES"), true),
            (.text("True"), true), (.boolean(false), false), (.int64(0), false), (.text("no"), false),
            (.text("please"), nil), (.int32(2), nil), (.text(""), nil),
        ] as [(FieldValue, Bool?)]
    )
    func `the wish for images is read as producers write it`(_ value: FieldValue, _ wish: Bool?) {
        let job = Self.job(["x-follow": value])
        #expect(job.asksForImages == wish)
        #expect(Self.policy.follows(job) == (wish == true))
    }

    @Test func `no header ends the worker`() throws {
        let numbers: FieldTable = [
            "x-follow-missing": .int64(.max), "x-follow-unreadable": .int64(.min), "x-submitted-at": .text("never"),
            "x-follow-not-before": .text("9999-12-31T23:59:59Z"),
        ]
        let task = try Self.task(numbers)
        #expect(task.age(at: .now) >= .zero)
        _ = Self.policy.next(after: .notFound(isOfAPI: true), of: task, at: .now, seen: "s")
        #expect(FollowedTask(Self.job([:])) == nil)
    }
}
