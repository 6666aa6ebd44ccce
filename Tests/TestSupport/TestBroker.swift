import Foundation
import FoundationNetworking
package import JSON
package import RabbitMQ

/// The real broker that `deploy/test` has started, with a virtual host of one test's own.
package struct TestBroker: Sendable {
    /// The broker's URL with the test's virtual host.
    package let urlText: String
    package let url: AMQPURL
    package let virtualHost: String

    /// A broker of a test's own, with its default virtual host.
    package init(at urlText: String) throws {
        self.init(urlText: urlText, url: try AMQPURL(parsing: urlText), virtualHost: "/")
    }

    private init(urlText: String, url: AMQPURL, virtualHost: String) {
        self.urlText = urlText
        self.url = url
        self.virtualHost = virtualHost
    }

    /// Runs a test with a virtual host of its own, and removes that with all its queues afterwards.
    package static func withVirtualHost<Result>(
        isolation: isolated (any Actor)? = #isolation,
        _ body: (TestBroker) async throws -> Result
    ) async throws -> Result {
        guard let base = ProcessInfo.processInfo.environment["SEEDREAM_TEST_AMQP_URL"] else {
            throw DeadlinePassed(description: "SEEDREAM_TEST_AMQP_URL is not set; run the tests with deploy/test")
        }
        let name = "test-\(UUID().uuidString.lowercased())"
        try await management("PUT", "/api/vhosts/\(name)")
        let broker = TestBroker(urlText: base + name, url: try AMQPURL(parsing: base + name), virtualHost: name)
        do {
            let result = try await body(broker)
            try await management("DELETE", "/api/vhosts/\(name)")
            return result
        } catch {
            _ = try? await management("DELETE", "/api/vhosts/\(name)")
            throw error
        }
    }

    /// Runs a part of a test as another user, who may do everything in this virtual host.
    package func withUser<Result>(
        isolation: isolated (any Actor)? = #isolation,
        _ body: (String, TestBroker) async throws -> Result
    ) async throws -> Result {
        let user = "u-\(UUID().uuidString.lowercased())"
        try await Self.management("PUT", "/api/users/\(user)", body: #"{"password":"\#(user)","tags":""}"#)
        let all = #"{"configure":".*","write":".*","read":".*"}"#
        try await Self.management("PUT", "/api/permissions/\(virtualHost)/\(user)", body: all)
        let text = "amqp://\(user):\(user)@127.0.0.1:\(url.port)/\(virtualHost)"
        let other = TestBroker(urlText: text, url: try AMQPURL(parsing: text), virtualHost: virtualHost)
        do {
            let result = try await body(user, other)
            try await Self.management("DELETE", "/api/users/\(user)")
            return result
        } catch {
            _ = try? await Self.management("DELETE", "/api/users/\(user)")
            throw error
        }
    }

    /// An open connection; the caller closes it.
    package func connect(_ name: String = "test") async throws -> AMQPConnection {
        try await AMQPConnection.open(url, options: AMQPConnectionOptions(name: name))
    }

    /// An open connection, closed after the test.
    package func withConnection<Result>(
        isolation: isolated (any Actor)? = #isolation,
        _ body: (AMQPConnection) async throws -> Result
    ) async throws -> Result {
        let connection = try await connect()
        do {
            let result = try await body(connection)
            await connection.close()
            return result
        } catch {
            await connection.close()
            throw error
        }
    }

    /// Takes all messages that a queue holds, as many as `count`, acknowledging each.
    package func take(_ count: Int, from queue: String) async throws -> [Delivery] {
        guard count > 0 else { return [] }
        return try await withConnection { connection in
            let consumer = try await connection.consume(from: ByteString(queue), prefetch: 0)
            return try await within(.seconds(240), "\(count) messages in \(queue)") {
                var taken: [Delivery] = []
                for await delivery in consumer.deliveries {
                    taken.append(delivery)
                    connection.acknowledge(delivery.tag)
                    if taken.count == count { break }
                }
                return taken
            }
        }
    }

    /// Takes replies until so many jobs have one, acknowledging each.
    package func takeReplies(ofJobs count: Int, from queue: String) async throws -> [Delivery] {
        try await withConnection { connection in
            let consumer = try await connection.consume(from: ByteString(queue), prefetch: 0)
            return try await within(.seconds(240), "replies to \(count) jobs in \(queue)") {
                var taken: [Delivery] = []
                var jobs: Set<ByteString> = []
                for await delivery in consumer.deliveries {
                    taken.append(delivery)
                    connection.acknowledge(delivery.tag)
                    if let job = delivery.properties.correlationID { jobs.insert(job) }
                    if jobs.count == count { break }
                }
                return taken
            }
        }
    }

    /// What the management API says of a queue, such as `messages_ready`.
    package func queue(_ name: String) async throws -> JSONValue {
        try await Self.management("GET", "/api/queues/\(virtualHost)/\(name)")
    }

    /// One call of the management API.
    @discardableResult
    package static func management(
        _ method: String,
        _ path: String,
        body: String? = nil
    ) async throws -> JSONValue {
        guard let base = ProcessInfo.processInfo.environment["SEEDREAM_TEST_MANAGEMENT_URL"],
            let url = URL(string: base), let host = url.host, let port = url.port
        else { throw DeadlinePassed(description: "SEEDREAM_TEST_MANAGEMENT_URL is not set; use deploy/test") }
        guard let address = URL(string: "http://\(host):\(port)\(path)") else {
            throw DeadlinePassed(description: "\(path) is no path of a URL")
        }
        var request = URLRequest(url: address, timeoutInterval: 120)
        request.httpMethod = method
        let login = Data("\(url.user ?? "guest"):\(url.password ?? "guest")".utf8).base64EncodedString()
        request.setValue("Basic \(login)", forHTTPHeaderField: "authorization")
        request.setValue("application/json", forHTTPHeaderField: "content-type")
        request.httpBody = body.map { Data($0.utf8) }
        let (answer, response) = try await URLSession.shared.data(for: request)
        let status = (response as? HTTPURLResponse)?.statusCode ?? 0
        guard (200...299).contains(status) else {
            throw DeadlinePassed(description: "\(method) \(path): \(status) \(String(decoding: answer, as: UTF8.self))")
        }
        return answer.isEmpty ? .null : try JSONValue(parsing: answer)
    }
}

extension AMQPConnection {
    /// Publishes a message, and waits for what the broker says of it.
    package nonisolated func publish(_ message: OutboundMessage) async throws(AMQPError) -> PublishResult {
        try await makePublisher().publish(message)
    }
}
