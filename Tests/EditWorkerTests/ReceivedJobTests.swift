import EditWorker
import RabbitMQ
import SharedValues
import Testing

/// What a producer can write into a job's properties and headers, and what is made of it.
struct ReceivedJobTests {
    private static func job(
        redelivered: Bool = false,
        _ change: (inout MessageProperties) -> Void = { _ in }
    ) -> ReceivedJob {
        var properties = MessageProperties()
        change(&properties)
        let delivery = Delivery(
            tag: DeliveryTag(epoch: 1, number: 1),
            redelivered: redelivered,
            routingKey: "q",
            properties: properties,
            body: []
        )
        return ReceivedJob(delivery, freshID: { "fresh" })
    }

    private static func age(_ timestamp: UInt64) -> Duration? { job { $0.timestamp = timestamp }.age }

    @Test func `a timestamp of any size has an age or none, and ends nothing`() {
        #expect(Self.age(9_223_372_036_854_776) == nil)
        // Around every multiple of 2^64 / 1000, where milliseconds would overflow.
        for multiple in UInt64(0)...1000 {
            let (high, low) = multiple.multipliedFullWidth(by: .max)
            let (center, _) = UInt64(1000).dividingFullWidth((high, low))
            for offset in UInt64(0)...4 {
                _ = Self.age(center &+ offset)
                _ = Self.age(center &- offset)
            }
        }
        for timestamp in [0, 1, UInt64(Int64.max) - 1, UInt64(Int64.max), UInt64(Int64.max) + 1, .max - 1, .max] {
            _ = Self.age(timestamp)
        }
        #expect((Self.age(0) ?? .zero) > .seconds(1_700_000_000))
        #expect((Self.age(0) ?? .zero).wholeNanoseconds > 0)
        // In milliseconds by mistake: in the far future.
        #expect(Self.age(1_700_000_000_000) == nil)
    }

    @Test func `a duration that has more nanoseconds than a number holds is the largest`() {
        #expect(Duration.seconds(Int64.max).wholeNanoseconds == .max)
        #expect(Duration.seconds(Int64.min).wholeNanoseconds == .min)
        #expect(Duration.seconds(Int64.max).wholeMilliseconds == .max)
        #expect(Duration.milliseconds(1500).wholeNanoseconds == 1_500_000_000)
        #expect(Duration.milliseconds(-1500).wholeMilliseconds == -1500)
    }

    @Test func `numbers that a producer has made up are bounded`() {
        for number in [Int64.min, -1, .max] {
            let job = Self.job {
                $0.headers = [
                    "x-attempts": .int64(number), "x-replay-count": .int64(number), "x-delivery-count": .int64(number),
                ]
            }
            #expect((0...1_000_000).contains(job.attempts))
            #expect(job.replayCount >= 0)
            #expect(job.countedDeliveries >= 0)
        }
    }

    @Test func `a delivery that comes again was delivered before, whoever says so`() {
        #expect(!Self.job().wasDeliveredBefore)
        #expect(Self.job(redelivered: true).wasDeliveredBefore)
        #expect(Self.job { $0.headers = ["x-delivery-count": .int64(1)] }.wasDeliveredBefore)
        #expect(!Self.job { $0.headers = ["x-delivery-count": .int64(0)] }.wasDeliveredBefore)
    }
}
