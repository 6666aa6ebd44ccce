import NIOCore
import NIOPosix
import NIOSSL

/// Speaks TLS to a client and plain TCP to a server: the broker's TLS listener, with a certificate of the test's own.
package final class TLSTerminator: Sendable {
    private let channel: any Channel

    /// The port on 127.0.0.1.
    package let port: Int

    /// Listens on a free port and passes everything on to `target` on 127.0.0.1.
    package init(certificate: TestCertificate, target: Int) async throws {
        let context = try NIOSSLContext(
            configuration: .makeServerConfiguration(
                certificateChain: NIOSSLCertificate.fromPEMFile(certificate.certificatePath).map { .certificate($0) },
                privateKey: .privateKey(NIOSSLPrivateKey(file: certificate.keyPath, format: .pem))
            )
        )
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { client in
                client.eventLoop
                    .makeCompletedFuture {
                        try client.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
                    }
                    .flatMap {
                        ClientBootstrap(group: client.eventLoop).connect(host: "127.0.0.1", port: target)
                    }
                    .flatMap { server in
                        client.eventLoop.makeCompletedFuture {
                            try client.pipeline.syncOperations.addHandler(Relay(to: server))
                            try server.pipeline.syncOperations.addHandler(Relay(to: client))
                        }
                    }
                    .flatMap {
                        client.setOption(.autoRead, value: true)
                    }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
    }

    package func close() async throws {
        try await channel.close()
    }
}

final class Relay: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let other: any Channel

    init(to other: any Channel) {
        self.other = other
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        other.writeAndFlush(unwrapInboundIn(data), promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        other.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
