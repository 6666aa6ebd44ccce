import NIOConcurrencyHelpers
import NIOCore

/// What a server still has to finish: its connections, of which there are never too many, and the tasks that answer requests.
final class OpenWork: Sendable {
    /// Told to each connection: close when the last response is sent.
    struct EndEvent: Sendable {}

    private struct Connection {
        let channel: any Channel
        var isAnswering = false
        /// Since when it has waited for a request, or has answered one.
        var since = NIODeadline.now()
    }

    private struct State {
        var connections: [ObjectIdentifier: Connection] = [:]
        var tasks: [Int: Task<Void, Never>] = [:]
        var next = 0
    }

    private let mostConnections: Int
    private let state = NIOLockedValueBox(State())

    init(mostConnections: Int) {
        self.mostConnections = mostConnections
    }

    /// Keeps a connection until it is closed; one too many takes the place of the one that has waited longest for a request.
    func add(_ channel: any Channel) {
        let ended = state.withLockedValue { [mostConnections] state -> (any Channel)? in
            state.connections[ObjectIdentifier(channel)] = Connection(channel: channel)
            guard state.connections.count > mostConnections else { return nil }
            // Of those that answer only if no other one waits: then the one that has been at it longest.
            let others = state.connections.filter { $0.key != ObjectIdentifier(channel) }
            let waiting = others.filter { !$0.value.isAnswering }
            let oldest = (waiting.isEmpty ? others : waiting).min { $0.value.since < $1.value.since }
            return oldest.flatMap { state.connections.removeValue(forKey: $0.key)?.channel }
        }
        ended?.close(promise: nil)
        channel.closeFuture.whenComplete { [state] _ in
            state.withLockedValue { _ = $0.connections.removeValue(forKey: ObjectIdentifier(channel)) }
        }
    }

    /// Notes whether a connection has a request to answer.
    func note(_ channel: any Channel, isAnswering: Bool) {
        state.withLockedValue {
            $0.connections[ObjectIdentifier(channel)]?.isAnswering = isAnswering
            $0.connections[ObjectIdentifier(channel)]?.since = .now()
        }
    }

    /// Begins a task, which is waited for at the end, even if its connection is gone by then.
    func begin(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
        state.withLockedValue { locked in
            locked.next += 1
            let id = locked.next
            let task = Task { [state] in
                await body()
                state.withLockedValue { _ = $0.tasks.removeValue(forKey: id) }
            }
            locked.tasks[id] = task
            return task
        }
    }

    /// Closes what is idle at once, the rest when its response is sent or the time is over; waits for all tasks.
    func end(within patience: TimeAmount) async {
        let channels = state.withLockedValue { $0.connections.values.map(\.channel) }
        for channel in channels {
            channel.pipeline.fireUserInboundEventTriggered(EndEvent())
            let deadline = channel.eventLoop.scheduleTask(in: patience) { channel.close(promise: nil) }
            channel.closeFuture.whenComplete { _ in deadline.cancel() }
        }
        for channel in channels { try? await channel.closeFuture.get() }
        for task in state.withLockedValue({ Array($0.tasks.values) }) { await task.value }
    }
}
