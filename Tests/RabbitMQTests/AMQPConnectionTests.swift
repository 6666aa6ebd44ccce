import CMalloc
import RabbitMQ
import TestSupport
import Testing

/// Against the real broker.
@Suite(.timeLimit(.minutes(10)))
struct AMQPConnectionTests {
    private static func message(to queue: ByteString, _ body: String, headers: FieldTable? = nil) -> OutboundMessage {
        var properties = MessageProperties()
        properties.headers = headers
        properties.messageID = ByteString(body)
        return OutboundMessage(routingKey: queue, properties: properties, body: Array(body.utf8))
    }

    @Test func `a message comes back with all its properties and its body`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                var properties = MessageProperties()
                properties.contentType = "application/json"
                properties.contentEncoding = "utf-8"
                properties.headers = [:]
                properties.deliveryMode = 2
                properties.priority = 3
                properties.correlationID = ByteString([0xFF, 0x00, 0x41])
                properties.replyTo = "back"
                properties.expiration = "600000"
                properties.messageID = ""
                properties.timestamp = 1_700_000_000
                properties.type = "kind"
                properties.userID = "guest"
                properties.appID = "app"
                let body = (0..<300_000).map { UInt8(truncatingIfNeeded: $0) }
                let message = OutboundMessage(routingKey: "q", properties: properties, body: body)
                #expect(try await connection.publish(message) == .confirmed)
                let consumer = try await connection.consume(from: "q", prefetch: 1)
                let delivery = try #require(await consumer.deliveries.first { _ in true })
                #expect(delivery.properties == properties)
                #expect(delivery.body == body)
                #expect(delivery.routingKey == "q")
                #expect(delivery.exchange == "")
                #expect(!delivery.redelivered)
            }
        }
    }

    @Test func `a body above the limit is not kept, and its size is known`() async throws {
        try await TestBroker.withVirtualHost { broker in
            var options = AMQPConnectionOptions(name: "test")
            options.largestBody = 1000
            let connection = try await AMQPConnection.open(broker.url, options: options)
            _ = try await connection.declare(QueueDeclaration(name: "q"))
            let consumer = try await connection.consume(from: "q", prefetch: 0)
            var deliveries = consumer.deliveries.makeAsyncIterator()
            for size in [1000, 1001, 300_000, 0] {
                let body = [UInt8](repeating: UInt8(ascii: "x"), count: size)
                #expect(try await connection.publish(OutboundMessage(routingKey: "q", body: body)) == .confirmed)
                let delivery = try #require(await deliveries.next())
                #expect(delivery.bodySize == UInt64(size))
                #expect(delivery.isBodyKept == (size <= 1000))
                #expect(delivery.body.count == (size <= 1000 ? size : 0))
            }
            await connection.close()
        }
    }

    @Test func `an exchange brings what is bound to it, and nothing else`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                let missing = await #expect(throws: AMQPError.self) { try await connection.inspect(exchange: "door") }
                #expect(missing?.code == .notFound)
                try await connection.declare(ExchangeDeclaration(name: "door"))
                try await connection.inspect(exchange: "door")
                try await connection.bind(Binding(exchange: "door", queue: "q", routingKey: "q"))
                let other = await #expect(throws: AMQPError.self) {
                    try await connection.declare(ExchangeDeclaration(name: "door", kind: "fanout"))
                }
                #expect(other?.code == .preconditionFailed)
                let message = OutboundMessage(exchange: "door", routingKey: "q", body: [1], mandatory: true)
                #expect(try await connection.publish(message) == .confirmed)
                let stray = OutboundMessage(exchange: "door", routingKey: "other", body: [1], mandatory: true)
                let result = try await connection.publish(stray)
                if case .returned = result {} else { Issue.record("\(result)") }
                #expect(try await connection.inspect(queue: "q").messageCount == 1)
            }
        }
    }

    @Test func `a consumer that ends under load makes no message look as if it had been delivered before`() async throws
    {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                let queue = QueueDeclaration(name: "q", arguments: ["x-queue-type": .text("quorum")])
                _ = try await connection.declare(queue)
                let publisher = try await connection.makePublisher()
                let publishes = (0..<6000).map { publisher.start(Self.message(to: "q", "\($0)")) }
                for publish in publishes { #expect(try await publish.result == .confirmed) }
                var taken = 0
                var again = 0
                while taken < 6000 {
                    let consumer = try await connection.consume(from: "q", prefetch: 50)
                    let most = min(6000 - taken, .random(in: 1...200))
                    var own = 0
                    for await delivery in consumer.deliveries {
                        own += 1
                        if delivery.redelivered { again += 1 }
                        connection.acknowledge(delivery.tag)
                        if own == most { try await consumer.cancel() }
                    }
                    taken += own
                }
                #expect(taken == 6000)
                #expect(again == 0)
            }
        }
    }

    @Test(arguments: ["acknowledgements", "rejections"])
    func `a connection that closes loses none of its last`(_ kind: String) async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                // A quorum queue's channel keeps back more than 32 at once (rabbit_fifo_client), and a busy broker loses
                // those with the channel; a classic queue has all that was sent.
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                let publisher = try await connection.makePublisher()
                for _ in 0..<5 {
                    let publishes = (0..<1000).map { publisher.start(Self.message(to: "q", "\($0)")) }
                    for publish in publishes { #expect(try await publish.result == .confirmed) }
                    let reader = try await broker.connect("reader")
                    let consumer = try await reader.consume(from: "q", prefetch: 0)
                    var taken: [Delivery] = []
                    for await delivery in consumer.deliveries {
                        taken.append(delivery)
                        if taken.count == 1000 { break }
                    }
                    #expect(taken.allSatisfy { !$0.redelivered })
                    // Out of order, so that each goes out by itself.
                    for delivery in taken.shuffled() {
                        if kind == "rejections" { delivery.deadLetter() } else { _ = delivery.acknowledge() }
                    }
                    await reader.close()
                    // What comes back comes at once.
                    let left = try await broker.connect("left")
                    #expect(try await left.inspect(queue: "q").messageCount == 0)
                    await left.close()
                }
            }
        }
    }

    @Test func `a connection that only asks keeps no memory of it`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let connection = try await broker.connect()
            _ = try await connection.declare(QueueDeclaration(name: "q"))
            func ask(_ times: Int) async throws {
                for _ in 0..<times { _ = try await connection.inspect(queue: "q") }
            }
            try await ask(500)
            // Other tests allocate meanwhile, but rarely so much; 215 bytes per question would be 1.3 MB in each round.
            var more = Int.max
            for _ in 0..<3 where more >= 1_000_000 {
                let before = mallinfo2().uordblks
                try await ask(6000)
                more = Int(mallinfo2().uordblks) - Int(before)
            }
            #expect(more < 1_000_000, "\(more) bytes")
            await connection.close()
        }
    }

    @Test func `every header type survives both ways`() async throws {
        let headers: FieldTable = [
            "boolean": .boolean(true), "int8": .int8(-8), "uint8": .uint8(200), "int16": .int16(-300),
            "uint16": .uint16(60_000), "int32": .int32(.min), "uint32": .uint32(.max), "int64": .int64(.min),
            "float": .float(1.5), "double": .double(-2.25), "decimal": .decimal(scale: 2, value: 314),
            "string": .string(ByteString([0xC3, 0x28])), "bytes": .bytes(ByteString([0, 255])),
            "array": .array([.int64(1), .text("x"), .array([]), .table(["y": .void])]),
            "timestamp": .timestamp(1_700_000_000), "table": .table(["a": .table(["b": .boolean(false)])]),
            "void": .void, "empty": .text(""),
        ]
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                #expect(try await connection.publish(Self.message(to: "q", "m", headers: headers)) == .confirmed)
                let consumer = try await connection.consume(from: "q", prefetch: 1)
                let delivery = try #require(await consumer.deliveries.first { _ in true })
                let back = try #require(delivery.properties.headers)
                for entry in headers.entries {
                    #expect(back[entry.name] == entry.value, "\(entry.name)")
                }
                #expect(back.entries.count == headers.entries.count)
            }
        }
    }

    @Test func `a message that no queue takes comes back, and only that`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                let results = try await withThrowingTaskGroup(of: (Int, PublishResult).self) { group in
                    for index in 0..<200 {
                        let queue: ByteString = index % 3 == 0 ? "nowhere" : "q"
                        group.addTask { (index, try await connection.publish(Self.message(to: queue, "\(index)"))) }
                    }
                    return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
                }
                for index in 0..<200 {
                    let wanted: PublishResult =
                        index % 3 == 0 ? .returned(replyCode: 312, replyText: "NO_ROUTE") : .confirmed
                    #expect(results[index] == wanted)
                }
                #expect(try await connection.inspect(queue: "q").messageCount == 133)
            }
        }
    }

    @Test func `a message that is too large fails alone`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                func message(_ change: (inout MessageProperties) -> Void) -> OutboundMessage {
                    var properties = MessageProperties()
                    change(&properties)
                    return OutboundMessage(routingKey: "q", properties: properties, body: [1])
                }
                let text = String(repeating: "x", count: await connection.frameMax)
                let longName = ByteString(String(repeating: "n", count: 256))
                let bad = [
                    message { $0.headers = ["big": .text(text)] }, message { $0.headers = [longName: .boolean(true)] },
                    message { $0.messageID = longName },
                ]
                let good = message { $0.messageID = "fine" }
                try await withThrowingTaskGroup(of: PublishResult?.self) { group in
                    for message in bad + [good, good] {
                        group.addTask {
                            do {
                                return try await connection.publish(message)
                            } catch let error as AMQPError where error.code == .tooLarge {
                                return nil
                            }
                        }
                    }
                    var results: [PublishResult?] = []
                    for try await result in group { results.append(result) }
                    #expect(results.filter { $0 == .confirmed }.count == 2)
                    #expect(results.filter { $0 == nil }.count == 3)
                }
                // The largest that fits does go through.
                let room = await connection.frameMax - MessageProperties.frameOverhead - 4 - 1 - 3 - 5
                let largest = message { $0.headers = ["big": .text(String(repeating: "x", count: room))] }
                #expect(largest.properties.fits(frameMax: await connection.frameMax))
                #expect(try await connection.publish(largest) == .confirmed)
            }
        }
    }

    @Test func `a full queue refuses, and the refusal is no confirm`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                let arguments: FieldTable = ["x-max-length": .int64(1), "x-overflow": .text("reject-publish")]
                _ = try await connection.declare(QueueDeclaration(name: "q", arguments: arguments))
                #expect(try await connection.publish(Self.message(to: "q", "1")) == .confirmed)
                #expect(try await connection.publish(Self.message(to: "q", "2")) == .refused)
            }
        }
    }

    @Test func `no more are unacknowledged than the prefetch allows`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                for index in 0..<20 { _ = try await connection.publish(Self.message(to: "q", "\(index)")) }
                let consumer = try await connection.consume(from: "q", prefetch: 5)
                var iterator = consumer.deliveries.makeAsyncIterator()
                var first: [Delivery] = []
                while first.count < 5, let delivery = await iterator.next() { first.append(delivery) }
                #expect(try await connection.inspect(queue: "q").messageCount == 15)
                // All but the first: the slow one holds back nobody.
                for delivery in first.dropFirst() { #expect(connection.acknowledge(delivery.tag)) }
                for _ in 0..<4 { _ = await iterator.next() }
                #expect(try await connection.inspect(queue: "q").messageCount == 11)
            }
        }
    }

    @Test func `a consumer with a raised prefetch has so many deliveries more, and ends as one`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                for index in 0..<10 { _ = try await connection.publish(Self.message(to: "q", "\(index)")) }
                let consumer = try await connection.consume(from: "q", prefetch: 2)
                try await consumer.raisePrefetch(by: 3)
                try await eventually("5 delivered") {
                    try await connection.inspect(queue: "q").messageCount == 5
                }
                try await consumer.cancel()
                var count = 0
                for await _ in consumer.deliveries { count += 1 }
                #expect(count == 5)
                try await consumer.raisePrefetch(by: 3)
                #expect(try await connection.inspect(queue: "q").consumerCount == 0)
            }
        }
    }

    @Test func `a delivery from an old connection is never acknowledged`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let old = try await broker.connect()
            _ = try await old.declare(QueueDeclaration(name: "q"))
            for body in ["1", "2"] { _ = try await old.publish(Self.message(to: "q", body)) }
            var deliveries = try await old.consume(from: "q", prefetch: 2).deliveries.makeAsyncIterator()
            let stale = try #require(await deliveries.next())
            await old.close()
            #expect(!old.acknowledge(stale.tag))
            try await broker.withConnection { connection in
                var again = try await connection.consume(from: "q", prefetch: 2).deliveries.makeAsyncIterator()
                let fresh = try #require(await again.next())
                #expect(fresh.redelivered)
                #expect(fresh.tag.number == stale.tag.number)
                #expect(!connection.acknowledge(stale.tag))
            }
            let status = try await broker.withConnection { try await $0.inspect(queue: "q") }
            #expect(status.messageCount == 2)
        }
    }

    @Test func `a missing queue and other arguments are told, and the connection lives`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                let missing = try #require(
                    await #expect(throws: AMQPError.self) { try await connection.inspect(queue: "q") }
                )
                #expect(missing.code == .notFound)
                #expect(missing.message.contains("q"))
                _ = try await connection.declare(QueueDeclaration(name: "q", arguments: ["x-max-length": .int64(3)]))
                let other = try #require(
                    await #expect(throws: AMQPError.self) {
                        try await connection.declare(
                            QueueDeclaration(name: "q", arguments: ["x-max-length": .int64(4)])
                        )
                    }
                )
                #expect(other.code == .preconditionFailed)
                #expect(other.message.contains("x-max-length"))
                #expect(try await connection.publish(Self.message(to: "q", "still")) == .confirmed)
            }
        }
    }

    @Test func `a deleted queue ends its consumer, and says so`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                let consumer = try await connection.consume(from: "q", prefetch: 1)
                try await broker.withConnection { try await $0.delete(queue: "q") }
                for await _ in consumer.deliveries {}
                let event = try #require(await connection.events.first { _ in true })
                guard case .consumerCancelled = event else {
                    Issue.record("\(event)")
                    return
                }
                // Nothing more can come to it; to that of a queue which is there it may, see PrivateBrokerTests.
                await consumer.closeIfCancelled()
                #expect(connection.isOpen)
            }
        }
    }

    @Test func `a consumer that nobody but this side has ended leaves the connection open`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                let consumer = try await connection.consume(from: "q", prefetch: 1)
                try await consumer.cancel()
                await consumer.closeIfCancelled()
                #expect(connection.isOpen)
            }
        }
    }

    @Test func `a cancelled consumer keeps what it had and gets no more`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { connection in
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                for index in 0..<3 { _ = try await connection.publish(Self.message(to: "q", "\(index)")) }
                let consumer = try await connection.consume(from: "q", prefetch: 3)
                try await consumer.cancel()
                _ = try await connection.publish(Self.message(to: "q", "late"))
                var bodies: [String] = []
                for await delivery in consumer.deliveries {
                    bodies.append(String(decoding: delivery.body, as: UTF8.self))
                    connection.reject(delivery.tag, requeue: true)
                }
                #expect(!bodies.contains("late"))
                try await eventually("all are back") {
                    try await connection.inspect(queue: "q").messageCount == 4
                }
            }
        }
    }

    @Test func `what failed at login is told by its cause`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let options = AMQPConnectionOptions(name: "test")
            func expect(_ text: String, _ code: AMQPError.Code) async throws {
                let url = try AMQPURL(parsing: text)
                let error = await #expect(throws: AMQPError.self) {
                    _ = try await AMQPConnection.open(url, options: options)
                }
                #expect(error?.code == code)
                #expect(error?.message.contains("hunter2") == false)
            }
            let address = "127.0.0.1:\(broker.url.port)"
            try await expect("amqp://guest:hunter2@\(address)/", .authenticationRefused)
            try await expect("amqp://guest:guest@\(address)/wrong-vhost", .accessRefused)
            try await expect("amqp://guest:guest@127.0.0.1:1/", .unreachable)
            try await expect("amqp://guest:guest@no-such-host.invalid/", .nameNotResolved)
        }
    }

    @Test func `over TLS the broker's certificate is verified, peer and host name`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let good = try await TestCertificate(for: "IP:127.0.0.1,DNS:localhost")
            let other = try await TestCertificate(for: "DNS:other.example")
            func open(_ certificate: TestCertificate, root: TestCertificate?) async throws {
                let terminator = try await TLSTerminator(certificate: certificate, target: Int(broker.url.port))
                let text = "amqps://guest:guest@localhost:\(terminator.port)/\(broker.virtualHost)"
                var options = AMQPConnectionOptions(name: "test")
                options.tls.caFile = root?.certificatePath
                let connection = try await AMQPConnection.open(AMQPURL(parsing: text), options: options)
                _ = try await connection.declare(QueueDeclaration(name: "q"))
                await connection.close()
            }
            try await open(good, root: good)
            for (certificate, root) in [(good, nil), (good, other), (other, other)]
                as [(TestCertificate, TestCertificate?)]
            {
                let error = await #expect(throws: AMQPError.self) { try await open(certificate, root: root) }
                #expect(error?.code == .tls, "\(error.map { "\($0)" } ?? "")")
            }
            let missing = await #expect(throws: AMQPError.self) {
                var options = AMQPConnectionOptions(name: "test")
                options.tls.caFile = "/no/such/file"
                _ = try await AMQPConnection.open(AMQPURL(parsing: "amqps://localhost"), options: options)
            }
            #expect(missing?.message.contains("/no/such/file") == true)
        }
    }

    @Test func `whoever waits hears of a connection that is closed by force`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let connection = try await broker.connect("victim")
            _ = try await connection.declare(QueueDeclaration(name: "q"))
            let consumer = try await connection.consume(from: "q", prefetch: 1)
            try await TestBroker.management("DELETE", "/api/vhosts/\(broker.virtualHost)")
            for await _ in consumer.deliveries {}
            await #expect(throws: AMQPError.self) { try await connection.publish(Self.message(to: "q", "x")) }
            try await TestBroker.management("PUT", "/api/vhosts/\(broker.virtualHost)")
        }
    }

    @Test func `a broker that stops reading ends what is written to it`() async throws {
        try await TestBroker.withVirtualHost { broker in
            let proxy = try await FaultProxy(target: Int(broker.url.port))
            var options = AMQPConnectionOptions(name: "test")
            options.heartbeat = .seconds(1)
            let url = try AMQPURL(parsing: "amqp://guest:guest@127.0.0.1:\(proxy.port)/\(broker.virtualHost)")
            let connection = try await AMQPConnection.open(url, options: options)
            _ = try await connection.declare(QueueDeclaration(name: "q"))
            // A full socket holds the thread, and only the missing heartbeats can end that.
            try await proxy.stopReading()
            proxy.silence(true)
            let message = OutboundMessage(routingKey: "q", body: [UInt8](repeating: 1, count: 4 << 20))
            await withThrowingTaskGroup { group in
                for _ in 0..<20 { group.addTask { _ = try await connection.publish(message) } }
                var failures: [AMQPError?] = []
                while let result = await group.nextResult() {
                    if case .failure(let error) = result { failures.append(error as? AMQPError) }
                }
                #expect(failures.count == 20)
                #expect(failures.first??.code == .heartbeatLost)
            }
            try await proxy.close()
        }
    }

    @Test func `5000 messages go through and come back in order`() async throws {
        try await TestBroker.withVirtualHost { broker in
            try await broker.withConnection { publisher in
                _ = try await publisher.declare(QueueDeclaration(name: "q"))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for index in 0..<5000 {
                        group.addTask {
                            let result = try await publisher.publish(Self.message(to: "q", "\(index)"))
                            #expect(result == .confirmed)
                        }
                    }
                    try await group.waitForAll()
                }
            }
            let deliveries = try await broker.take(5000, from: "q")
            #expect(Set(deliveries.map(\.body)).count == 5000)
        }
    }
}
