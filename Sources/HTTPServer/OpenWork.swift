import NIOConcurrencyHelpers
import NIOCore

/// What a server still has to finish: its connections, and the tasks that answer requests.
final class OpenWork: Sendable {
    /// Told to each connection: close when the last response is sent.
    struct EndEvent: Sendable {}

    private struct State {
        var channels: [ObjectIdentifier: any Channel] = [:]
        var tasks: [Int: Task<Void, Never>] = [:]
        var next = 0
    }

    private let state = NIOLockedValueBox(State())

    /// Keeps a connection until it is closed.
    func add(_ channel: any Channel) {
        state.withLockedValue { $0.channels[ObjectIdentifier(channel)] = channel }
        channel.closeFuture.whenComplete { [state] _ in
            state.withLockedValue { _ = $0.channels.removeValue(forKey: ObjectIdentifier(channel)) }
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
        let channels = state.withLockedValue { Array($0.channels.values) }
        for channel in channels {
            channel.pipeline.fireUserInboundEventTriggered(EndEvent())
            let deadline = channel.eventLoop.scheduleTask(in: patience) { channel.close(promise: nil) }
            channel.closeFuture.whenComplete { _ in deadline.cancel() }
        }
        for channel in channels { try? await channel.closeFuture.get() }
        for task in state.withLockedValue({ Array($0.tasks.values) }) { await task.value }
    }
}
