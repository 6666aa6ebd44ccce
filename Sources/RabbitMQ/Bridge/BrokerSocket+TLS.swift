import CRabbitMQ
import Glibc

extension BrokerSocket {
    /// Where systems keep their trust roots: librabbitmq 0.11 has no call for OpenSSL's default paths.
    private static let systemRoots = [
        "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
    ]

    /// Sets up a TLS socket: peer and host name verified, TLS 1.2 at least, roots and client certificate from files.
    ///
    /// Source: `amqp_ssl_socket.h`.
    func secure(_ socket: OpaquePointer, _ tls: AMQPConnectionOptions.TLS) throws(AMQPError) {
        unsafe amqp_ssl_socket_set_verify_peer(socket, 1)
        unsafe amqp_ssl_socket_set_verify_hostname(socket, 1)
        try checkTLS(
            unsafe amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST),
            "TLS 1.2 cannot be required"
        )
        guard let roots = tls.caFile ?? Self.systemRoots.first(where: { unsafe access($0, R_OK) == 0 }) else {
            throw AMQPError(
                .tls,
                "the system has no trust roots",
                remedy: "install ca-certificates, or name a file with the certificate authorities to trust"
            )
        }
        try checkTLS(unsafe amqp_ssl_socket_set_cacert(socket, roots), "the trust roots in \(roots) cannot be used")
        guard let certificate = tls.certFile, let key = tls.keyFile else { return }
        try checkTLS(
            unsafe amqp_ssl_socket_set_key(socket, certificate, key),
            "the client certificate \(certificate) or its key \(key) cannot be used"
        )
    }

    private func checkTLS(_ status: Int32, _ fault: String) throws(AMQPError) {
        guard status != AMQP_STATUS_OK.rawValue else { return }
        throw AMQPError(.tls, fault, remedy: "check that the file is PEM, and that key and certificate belong together")
    }
}
