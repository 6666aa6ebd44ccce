/// How to talk to a broker, beside where it is.
package struct AMQPConnectionOptions: Hashable, Sendable {
    /// The largest frame that we offer, RabbitMQ's own default of 2^17 bytes.
    ///
    /// The broker may lower it.
    package static let frameMax = 131_072

    /// The connection's name in the broker's management views and log.
    package var name: String
    /// The client program, as the broker shows it.
    package var product = ""
    /// The interval after which a silent peer is asked for a sign of life; the broker may lower it.
    ///
    /// Whole seconds.
    package var heartbeat: Duration = .seconds(15)
    /// The longest wait for the TCP connection, and again for TLS and login.
    package var connectTimeout: Duration = .seconds(10)
    /// The longest wait for the broker's answer to a declaration and its like.
    package var rpcTimeout: Duration = .seconds(30)
    /// The longest wait for a confirm.
    package var confirmTimeout: Duration = .seconds(30)

    /// The largest body, in bytes, that a delivery may have in memory; nil for no limit.
    ///
    /// A larger one is read from the socket and dropped, and `Delivery.isBodyKept` is false.
    package var largestBody: Int?

    /// How to trust and be trusted over TLS.
    package var tls = TLS()

    /// How to trust the broker, and how to be trusted by it, over TLS.
    ///
    /// All files are PEM.
    package struct TLS: Hashable, Sendable {
        /// The trust roots, nil for the system's.
        package var caFile: String?
        /// The client's certificate, nil for none.
        package var certFile: String?
        /// The key of the client's certificate.
        package var keyFile: String?

        /// The system's roots and no client certificate.
        package init() {}
    }

    /// The defaults under a name.
    package init(name: String) {
        self.name = name
    }
}
