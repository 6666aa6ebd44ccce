import Foundation
import JSON
import RabbitMQ
import TestSupport
import Testing

extension ProgramTests {
    /// Producers that no one here wrote.
    @Suite(.timeLimit(.minutes(10)))
    struct ForeignProducerTests {
        @Test func `amqp-publish`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                let made = try await Program.run(
                    [
                        "--url", service.broker.urlText, "--routing-key", "jobs", "--persistent", "--body",
                        ServiceFixture.job(),
                    ],
                    executable: "/usr/bin/amqp-publish"
                )
                #expect(made.status == 0, "\(made.stderr)")
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["status"]?.text == "submitted")
                // Without a message id the reply carries the one that the worker made up.
                #expect(reply.properties.correlationID?.text == reply.json["job_id"]?.text)
            }
        }

        private static let rpc = """
            import pika, sys, uuid
            connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
            channel = connection.channel()
            def on_reply(ch, method, properties, body):
                assert properties.correlation_id == "mine", properties
                print(body.decode())
                connection.close()
                sys.exit(0)
            channel.basic_consume("amq.rabbitmq.reply-to", on_reply, auto_ack=True)
            properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="mine", message_id=str(uuid.uuid4()))
            channel.basic_publish("", "jobs", sys.argv[2].encode(), properties)
            connection.call_later(30, lambda: sys.exit("no reply"))
            channel.start_consuming()
            """

        @Test func `pika with direct reply-to, as an RPC client`() async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                for (job, status) in [(ServiceFixture.job(), "submitted"), ("{}", "failed")] {
                    let made = try await Program.run(
                        ["-c", Self.rpc, service.broker.urlText, job],
                        executable: "/usr/bin/python3"
                    )
                    #expect(made.status == 0, "\(made.stderr)")
                    #expect(try JSONValue(parsing: made.stdout.utf8)["status"]?.text == status)
                }
                #expect(try await service.ready("jobs.results") == 0)
            }
        }

        @Test func `a requester that is gone costs nothing`() async throws {
            try await ServiceFixture.with { service in
                let gone = try await service.broker.withConnection { connection in
                    _ = try await connection.consume(from: "amq.rabbitmq.reply-to", prefetch: 0, acknowledges: false)
                    _ = try await connection.declare(QueueDeclaration(name: "mirror"))
                    var properties = MessageProperties()
                    properties.replyTo = "amq.rabbitmq.reply-to"
                    _ = try await connection.publish(
                        OutboundMessage(routingKey: "mirror", properties: properties, body: [])
                    )
                    // The broker puts the requester's own address into the message.
                    let consumer = try await connection.consume(from: "mirror", prefetch: 1)
                    return await consumer.deliveries.first { _ in true }?.properties.replyTo
                }
                let address = try #require(gone)
                #expect(address.text.hasPrefix("amq.rabbitmq.reply-to."))
                _ = try await service.startWorker()
                try await service.publish([ServiceFixture.job()]) { _, properties in properties.replyTo = address }
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["error"]?["code"]?.text == "requester_gone")
                #expect(reply.header("x-undeliverable-reply-to") == address.text)
                try await service.waitFor(1, in: "jobs.dlq")
                #expect(try await service.count("requests") == 0)
            }
        }

        @Test(.serialized, arguments: ["nowhere", "jobs", "jobs.dlq", "jobs.retry.1s"])
        func `a reply that cannot go where the job says goes to the results`(_ queue: String) async throws {
            try await ServiceFixture.with { service in
                _ = try await service.startWorker()
                try await service.publish([ServiceFixture.job()]) { _, properties in
                    properties.replyTo = ByteString(queue)
                }
                let reply = try #require(try await service.broker.take(1, from: "jobs.results").first)
                #expect(reply.json["status"]?.text == "submitted")
                #expect(reply.header("x-undeliverable-reply-to") == queue)
                #expect(try await service.count("accepted") == 1)
            }
        }
    }
}
