import NIOCore
package import NIOPosix
import NIOSSL
package import SharedValues

/// Tries the way to the API without asking it anything: the name, the connection, the certificate.
package enum EndpointProbe {
    /// What is in the way.
    package enum Fault: Error, Hashable, Sendable {
        /// The base URL is none.
        case invalidURL
        /// No address for the name.
        case nameNotResolved(host: String)
        /// No connection, and why.
        case unreachable(address: String, reason: String)
        /// No TLS, and why.
        case tls(address: String, reason: String)
    }

    /// Connects and closes again; tells the address, and the TLS version where TLS is spoken.
    package static func reach(
        _ baseURL: String,
        caFile: String?,
        proxy: ProxyAddress? = nil,
        timeout: Duration,
        group: MultiThreadedEventLoopGroup
    ) async throws(Fault) -> (address: String, tlsVersion: String?) {
        guard let endpoint = APIEndpoint(baseURL) else { throw .invalidURL }
        let address = endpoint.address
        do {
            let connector: EndpointConnector
            do {
                connector = try EndpointConnector(endpoint, caFile: caFile, proxy: proxy, timeout: timeout)
            } catch {
                throw EndpointConnector.TLSFault(description: NetworkFault.text(error))
            }
            let version = try await connector.connect(on: group.next())
                .flatMapThrowing { channel in
                    defer { channel.close(promise: nil) }
                    guard endpoint.isSecure else { return nil as String? }
                    let handler = try channel.pipeline.syncOperations.handler(type: NIOSSLClientHandler.self)
                    return handler.tlsVersion.map { "\($0)" } ?? "TLS"
                }
                .get()
            return (address, version)
        } catch let error as EndpointConnector.TLSFault {
            throw .tls(address: address, reason: error.description)
        } catch let error as NIOConnectionError where error.connectionErrors.isEmpty {
            throw .nameNotResolved(host: endpoint.host)
        } catch let error as NIOConnectionError {
            let reasons = error.connectionErrors.map { NetworkFault.text($0.error) }
            throw .unreachable(address: address, reason: Set(reasons).sorted().joined(separator: "; "))
        } catch {
            throw .unreachable(address: address, reason: NetworkFault.text(error))
        }
    }
}
