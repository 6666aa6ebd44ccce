import Glibc
import NIOCore
import NIOPosix
import NIOSSL

/// Puts what NIO and the system say of a failed connection into words for people.
package enum NetworkFault {
    /// The system's words for an error number (strerror(3)), or what a timeout or an end means.
    package static func text(_ error: any Error) -> String {
        switch error {
        case let error as IOError: text(errno: error.errnoCode)
        case ChannelError.connectTimeout: "no answer in time"
        case ChannelError.eof, ChannelError.alreadyClosed, ChannelError.ioOnClosedChannel: "the other side hung up"
        case let error as NIOConnectionError:
            error.connectionErrors.isEmpty
                ? "the name \(error.host) has no address"
                : Set(error.connectionErrors.map { text($0.error) }).sorted().joined(separator: "; ")
        case let error as EndpointConnector.ProxyFault: error.description
        case let error as NIOSSLError: text(tls: "\(error)")
        case let error as BoringSSLError: text(tls: "\(error)")
        default: "\(error)"
        }
    }

    /// BoringSSL's words for what people meet.
    private static func text(tls words: String) -> String {
        let known = [
            ("CERTIFICATE_VERIFY_FAILED", "the certificate is not trusted"),
            ("WRONG_VERSION_NUMBER", "the other side does not speak TLS"),
            ("UNSUPPORTED_PROTOCOL", "the other side speaks no version of TLS from 1.2 on"),
            ("CERTIFICATE_REQUIRED", "the other side wants a client certificate"),
            ("uncleanShutdown", "the other side hung up"),
        ]
        return known.first { words.contains($0.0) }.map { "\($0.1) (\(words))" } ?? words
    }

    private static func text(errno: CInt) -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard unsafe strerror_r(errno, &buffer, buffer.count) == 0 else { return "error \(errno)" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
