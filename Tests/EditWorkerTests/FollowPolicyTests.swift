import AMQP
import EditJob
import EditWorker
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
        return try #require(FollowedTask(job(headers)))
    }

    @Test func `the wait grows with the age of the task`() throws {
        let task = try Self.task()
        for (age, wait) in [(0, 3), (29, 3), (30, 10), (119, 10), (120, 30), (899, 30)] as [(Int64, Int64)] {
            let next = Self.policy.next(after: .running, of: task, age: .seconds(age))
            #expect(next == .wait(.seconds(wait), .init()), "\(age)")
        }
    }

    @Test func `after the deadline nobody looks, but what is ready is told`() throws {
        let task = try Self.task()
        guard case .failed(let failure) = Self.policy.next(after: .running, of: task, age: .seconds(900)) else {
            Issue.record("still followed")
            return
        }
        #expect(failure.code == .followTimeout && failure.charged == .maybe)
        #expect(Self.policy.next(after: .completed(["u"]), of: task, age: .seconds(9000)) == .completed(["u"]))
    }

    @Test(arguments: [(TaskStatus.notFound, "x-follow-missing", 5), (.unreadable, "x-follow-unreadable", 3)])
    func `a miss counts in a row`(_ status: TaskStatus, _ header: String, _ most: Int) throws {
        for count in 0..<most {
            let task = try Self.task([ByteString(header): .int32(Int32(count))])
            let next = Self.policy.next(after: status, of: task, age: .seconds(1))
            if case .failed = next { #expect(count == most - 1) } else { #expect(count < most - 1) }
        }
        let task = try Self.task([ByteString(header): .int32(2)])
        #expect(Self.policy.next(after: .running, of: task, age: .zero) == .wait(.seconds(3), .init()))
    }

    @Test func `no look is sooner than the API wants`() throws {
        let task = try Self.task()
        let status = TaskStatus.noAnswer(retryAfter: .seconds(20), isTokenRefused: false)
        guard case .wait(let wait, let misses) = Self.policy.next(after: status, of: task, age: .zero) else {
            Issue.record("not followed")
            return
        }
        #expect(wait == .seconds(30) && misses.notBefore != nil)
        let short = TaskStatus.noAnswer(retryAfter: .seconds(1), isTokenRefused: false)
        #expect(Self.policy.next(after: short, of: task, age: .zero) == .wait(.seconds(3), .init()))
    }

    @Test func `only those who ask are followed, unless all are`() {
        let asked = Self.job(["x-follow": .boolean(true)])
        let other = Self.job([:])
        #expect(Self.policy.follows(asked) && !Self.policy.follows(other))
        let all = FollowPolicy(choice: .all, delays: [.seconds(1)], deadline: .seconds(1))
        #expect(all.follows(other))
        let none = FollowPolicy(choice: .none, delays: [.seconds(1)], deadline: .seconds(1))
        #expect(!none.follows(asked) && !none.follows)
    }

    @Test func `no header ends the worker`() throws {
        let numbers: FieldTable = [
            "x-follow-missing": .int64(.max), "x-follow-unreadable": .int64(.min), "x-submitted-at": .text("never"),
            "x-follow-not-before": .text("9999-12-31T23:59:59Z"),
        ]
        let task = try Self.task(numbers)
        #expect(task.age(at: .now) >= .zero)
        _ = Self.policy.next(after: .notFound, of: task, age: task.age(at: .now))
        #expect(FollowedTask(Self.job([:])) == nil)
    }
}
