import TestSupport
import Testing

@testable import RabbitMQ

@Suite struct DeliveryQueueTests {
    private static func delivery(_ number: UInt64) -> Delivery {
        Delivery(tag: DeliveryTag(epoch: 1, number: number), routingKey: "q", properties: MessageProperties(), body: [])
    }

    @Test func `deliveries come in their order, those of before the end too`() async {
        let queue = DeliveryQueue()
        let reader = Task {
            var numbers: [UInt64] = []
            while let delivery = await queue.next() { numbers.append(delivery.tag.number) }
            return numbers
        }
        for number in 0..<10_000 { queue.put(Self.delivery(UInt64(number))) }
        queue.finish()
        #expect(await reader.value == Array(0..<10_000))
        #expect(await queue.next() == nil)
    }

    @Test func `a reader that is cancelled goes on with nothing, whenever that is`() async {
        for _ in 0..<200 {
            let queue = DeliveryQueue()
            let reader = Task { await queue.next() == nil }
            reader.cancel()
            #expect(await reader.value)
            // What comes then is the next reader's.
            queue.put(Self.delivery(1))
            #expect(await queue.next()?.tag.number == 1)
        }
    }
}
