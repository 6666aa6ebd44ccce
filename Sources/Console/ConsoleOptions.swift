package import EditJob
package import EditWorker
package import OperatorTools
import RabbitMQ
package import SeedreamAPI

/// What a console is about, and who may look at it.
package struct ConsoleOptions: Sendable {
    /// Host name or address to listen on.
    package var host: String
    /// Port to listen on; 0 lets the system choose.
    package var port: Int
    /// Nil lets everybody in who reaches the address.
    package var password: String?
    /// Whether the images of jobs are shown, which the browser asks their own servers for.
    package var showsImages = true
    /// What to do with fields that this version does not know, for the check of a corrected job.
    package var unknownFields = UnknownFieldPolicy.reject
    /// Asks the API for a task's status, which costs nothing; nil without a token.
    package var look: (@Sendable (_ taskID: String) async -> TaskStatus)?
    package let version: String
    /// Who gives orders, for the others: `USER@HOST`.
    package let person: String
    /// The job queue's name, for people.
    var queueName: String { queues.jobs.text }
    let broker: BrokerAccess
    let queues: JobQueues

    package init(
        host: String,
        port: Int,
        broker: BrokerAccess,
        queues: JobQueues,
        version: String,
        person: String
    ) {
        self.host = host
        self.port = port
        self.broker = broker
        self.queues = queues
        self.version = version
        self.person = person
    }

    /// Whether an address can be reached from this machine only.
    package static func isLoopback(_ host: String) -> Bool {
        if host == "localhost" || host == "::1" { return true }
        // A name may begin with 127 too, and belong to anybody.
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127"
            && parts.allSatisfy { UInt8($0) != nil && $0.allSatisfy(\.isNumber) }
    }
}
