import Glibc
import NIOConcurrencyHelpers

/// Who this process is in messages, connections and logs.
package struct WorkerIdentity: Sendable {
    /// `HOST:PID`.
    package let name: String
    package let version: String
    private let prefix: String
    private let counter = NIOLockedValueBox<UInt64>(0)

    /// The identity of this process.
    package init(version: String) {
        name = "\(Self.hostName):\(getpid())"
        self.version = version
        prefix = String(UInt64.random(in: .min ... .max), radix: 36)
    }

    /// An identifier that no other message or job has.
    package func freshID() -> String {
        let number = counter.withLockedValue { counter in
            counter += 1
            return counter
        }
        return "\(prefix)-\(number)"
    }

    package static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
