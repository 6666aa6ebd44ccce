/// What went wrong between us and a broker, and what to check.
package struct AMQPError: Error, Hashable, Sendable {
    /// The kind of failure: few and stable, so that they serve as labels.
    package enum Code: String, Hashable, Sendable, CaseIterable {
        /// The host name has no address.
        case nameNotResolved = "name_not_resolved"
        /// No connection to the address.
        case unreachable
        /// The TLS handshake failed, or a certificate was refused.
        case tls
        /// The broker refused the user or the password.
        case authenticationRefused = "authentication_refused"
        /// The user lacks a permission, or the virtual host is missing or closed to the user.
        case accessRefused = "access_refused"
        /// A queue or exchange does not exist.
        case notFound = "not_found"
        /// A queue exists with other arguments, or a tag is unknown.
        case preconditionFailed = "precondition_failed"
        /// A limit of the broker, of its virtual host, user, or channels, is reached.
        case limitReached = "limit_reached"
        /// A queue belongs to another connection.
        case resourceLocked = "resource_locked"
        /// A delivery stayed without an acknowledgement for longer than the broker's `consumer_timeout`.
        case consumerTimeout = "consumer_timeout"
        /// The broker closed the connection or channel for another reason.
        case closedByBroker = "closed_by_broker"
        case connectionLost = "connection_lost"
        /// Nothing came from the broker for two heartbeats.
        case heartbeatLost = "heartbeat_lost"
        /// The broker did not answer in time.
        case timedOut = "timed_out"
        /// We had closed the connection.
        case closed
        /// The message does not fit the connection's frame.
        case tooLarge = "too_large"
        /// This host has no thread or open file left.
        case noResources = "no_resources"
        /// The broker broke the protocol, or librabbitmq failed.
        case protocolViolation = "protocol_violation"
    }

    /// The kind of failure.
    package let code: Code
    /// What failed while doing what; without credentials.
    package let message: String
    /// What to check or do about it.
    package let remedy: String
    /// The broker's reply code (`320`, `404` …) where it gave one.
    package let replyCode: UInt16?
    /// The failure that led to this one, if another part reported it.
    package let cause: (any Error)?

    /// Without `remedy` the code's own.
    package init(
        _ code: Code,
        _ message: String,
        remedy: String? = nil,
        replyCode: UInt16? = nil,
        cause: (any Error)? = nil
    ) {
        self.code = code
        self.message = message
        self.remedy = remedy ?? code.remedy
        self.replyCode = replyCode
        self.cause = cause
    }

    /// Two failures are the same if they say the same, whatever led to them.
    package static func == (one: AMQPError, other: AMQPError) -> Bool {
        one.code == other.code && one.message == other.message && one.replyCode == other.replyCode
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(code)
        hasher.combine(message)
    }

    /// Whether the same attempt may succeed later without anybody changing a setting.
    package var isRetriable: Bool {
        switch code {
        case .nameNotResolved, .unreachable, .consumerTimeout, .closedByBroker, .connectionLost, .heartbeatLost,
            .timedOut, .resourceLocked, .noResources, .limitReached:
            true
        case .tls, .authenticationRefused, .accessRefused, .notFound, .preconditionFailed, .closed, .tooLarge,
            .protocolViolation:
            false
        }
    }

    /// The code, for labels of metrics.
    package var shortDescription: String { code.rawValue }
}

extension AMQPError: CustomStringConvertible {
    package var description: String { "\(message) (\(code.rawValue)); \(remedy)" }
}

extension AMQPError.Code {
    /// What to check where the failure itself knows nothing better.
    var remedy: String {
        switch self {
        case .nameNotResolved: "check the host name in the AMQP URL, and the name service"
        case .unreachable: "check that the broker runs, and the host and port in the AMQP URL"
        case .tls: "check the CA file, the host name in the certificate, and that the port speaks TLS"
        case .authenticationRefused: "check user and password in the AMQP URL"
        case .accessRefused: "check the user's permissions and the virtual host in the AMQP URL"
        case .notFound: "declare the queue"
        case .preconditionFailed: "delete the queue once it is empty, or set the same arguments"
        case .limitReached: "raise the limit that the message names, or close what uses it up"
        case .resourceLocked: "another connection owns the queue exclusively; stop it, or use another name"
        case .consumerTimeout: "raise consumer_timeout in rabbitmq.conf above the longest job"
        case .closedByBroker: "see the broker's log"
        case .connectionLost: "check the network and the broker's log"
        case .heartbeatLost: "check the network between here and the broker"
        case .timedOut: "check the load of the broker and the network"
        case .closed: "this program closed it"
        case .tooLarge: "shorten the headers, or raise frame_max in rabbitmq.conf"
        case .noResources: "raise the limits on threads and open files"
        case .protocolViolation: "check that the port belongs to a RabbitMQ broker"
        }
    }
}
