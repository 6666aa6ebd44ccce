import CLinux
import Glibc
import NIOConcurrencyHelpers

/// A thread that runs an actor and waits for that actor's socket: a serial executor over `poll`.
///
/// rabbitmq-c's manual: a connection, its socket and its channels cannot be shared between threads. An actor on this
/// executor owns them as plain state, and the compiler proves that no other code touches them. The thread ends with the
/// executor, which the actor keeps alive.
/// Source: SE-0392 "Custom Actor Executors", SE-0424 "Custom isolation checking"; `eventfd(2)`, `poll(2)`.
package final class SocketThread: SerialExecutor {
    /// What a thread waits for between two turns, beside work and wake-ups.
    package struct Wait: Sendable {
        /// The socket to become readable, nil for none.
        package var descriptor: Int32?
        /// The longest wait in milliseconds, nil for ever.
        package var milliseconds: Int32?

        /// Waits for work only.
        package static let forWork = Wait(descriptor: nil, milliseconds: nil)

        /// Waits for a socket, for at most `milliseconds`.
        package init(descriptor: Int32?, milliseconds: Int32?) {
            self.descriptor = descriptor
            self.milliseconds = milliseconds
        }
    }

    private let loop: Loop

    /// Starts the thread under a name of at most 15 bytes, which `top -H` shows.
    ///
    /// Throws `ResourceFault` where the system has no thread or descriptor left.
    package init(name: String) throws(ResourceFault) {
        loop = try Loop()
        try loop.start(name: name)
    }

    deinit {
        loop.stop()
    }

    /// Sets what runs after each wake-up, on this thread, and tells how to wait for the next.
    package func onTurn(_ turn: @escaping @Sendable () -> Wait) {
        loop.state.withLockedValue { $0.turn = turn }
        wake()
    }

    /// Makes the thread take a turn soon.
    ///
    /// From any thread; costs a system call only if the thread sleeps.
    package func wake() {
        loop.post { $0.isWoken = true }
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let queued = unsafe QueuedJob(job: UnownedJob(job), executor: asUnownedSerialExecutor())
        loop.post { $0.jobs.append(queued) }
    }

    package func checkIsolated() {
        precondition(isIsolatingCurrentContext() == true, "not on the thread of this executor")
    }

    package func isIsolatingCurrentContext() -> Bool? {
        loop.isCurrentThread
    }
}

extension SocketThread {
    /// The system refused a thread or a descriptor.
    package struct ResourceFault: Error, CustomStringConvertible {
        /// The call that failed.
        package let call: String
        /// Its `errno`.
        package let number: Int32

        package var description: String {
            "\(call) failed (\(unsafe String(cString: strerror(number)))); raise the limits on threads and open files"
        }
    }
}

/// A job of the actor: unowned references, both kept alive by the actor that the job belongs to.
@safe private struct QueuedJob {
    let job: UnownedJob
    let executor: UnownedSerialExecutor

    func run() {
        unsafe job.runSynchronously(on: executor)
    }
}

/// The thread's own part, which outlives the executor by the thread's last turn.
private final class Loop: Sendable {
    struct State {
        var jobs: [QueuedJob] = []
        var turn: (@Sendable () -> SocketThread.Wait)?
        var isWoken = false
        var isAsleep = false
        var isStopped = false
        var thread: pthread_t?
    }

    let state = NIOLockedValueBox(State())
    private let event: Int32

    init() throws(SocketThread.ResourceFault) {
        event = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        guard event >= 0 else {
            throw SocketThread.ResourceFault(call: "eventfd", number: errno)
        }
    }

    deinit {
        _ = close(event)
    }

    var isCurrentThread: Bool {
        state.withLockedValue { $0.thread.map { pthread_equal($0, pthread_self()) != 0 } ?? false }
    }

    func start(name: String) throws(SocketThread.ResourceFault) {
        var thread = pthread_t()
        let argument = unsafe Unmanaged.passRetained(self)
        let status = unsafe pthread_create(
            &thread,
            nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                unsafe Unmanaged<Loop>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            },
            argument.toOpaque()
        )
        guard status == 0 else {
            unsafe argument.release()
            throw SocketThread.ResourceFault(call: "pthread_create", number: status)
        }
        _ = unsafe pthread_setname_np(thread, String(name.prefix(15)))
        _ = pthread_detach(thread)
    }

    /// Changes the state and, where the thread sleeps, wakes it: an event that is not needed costs nothing.
    func post(_ change: (inout State) -> Void) {
        let mustWake = state.withLockedValue { state in
            change(&state)
            defer { state.isAsleep = false }
            return state.isAsleep
        }
        // Keeps the loop alive: a bare descriptor could be closed and given out again before it is written.
        if mustWake { WakeUps.wake { _ = eventfd_write(self.event, 1) } }
    }

    func stop() {
        post { $0.isStopped = true }
    }

    private func run() {
        state.withLockedValue { $0.thread = pthread_self() }
        while true {
            let work = state.withLockedValue { state in
                defer {
                    state.jobs.removeAll(keepingCapacity: true)
                    state.isWoken = false
                }
                return (jobs: state.jobs, turn: state.turn, isStopped: state.isStopped)
            }
            for job in work.jobs { job.run() }
            if work.isStopped && work.jobs.isEmpty { return }
            sleep(work.turn?() ?? .forWork)
        }
    }

    private func sleep(_ wait: SocketThread.Wait) {
        let mayPollLong = state.withLockedValue { state in
            guard state.jobs.isEmpty, !state.isWoken, !state.isStopped else { return false }
            state.isAsleep = true
            return true
        }
        var descriptors = [
            pollfd(fd: event, events: Int16(POLLIN), revents: 0),
            pollfd(fd: wait.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
        ]
        // With work at hand there is no need to ask the kernel: the turn reads the socket without waiting anyway.
        guard mayPollLong else { return }
        _ = unsafe poll(&descriptors, 2, wait.milliseconds ?? -1)
        state.withLockedValue { $0.isAsleep = false }
        if descriptors[0].revents != 0 {
            var count: eventfd_t = 0
            _ = unsafe eventfd_read(event, &count)
        }
    }
}
