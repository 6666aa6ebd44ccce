import JSON
import NIOConcurrencyHelpers

/// The tasks that a stand-in has accepted, and how far each is by the clock.
final class SandboxTasks: Sendable {
    /// How a task goes.
    enum Fate: Sendable {
        case completes
        /// It ends without images.
        case fails
        /// The API forgets it.
        case isLost
        case isStuck
    }

    struct Task: Sendable {
        let images: Int
        let fate: Fate
        let acceptedAt: ContinuousClock.Instant
    }

    /// The oldest are forgotten beyond that.
    private static let most = 200_000

    private let generation: Duration
    private let state = NIOLockedValueBox<(tasks: [String: Task], order: [String])>(([:], []))

    init(generation: Duration) {
        self.generation = generation
    }

    func accept(_ id: String, images: Int, _ fate: Fate) {
        state.withLockedValue { state in
            state.tasks[id] = Task(images: images, fate: fate, acceptedAt: .now)
            state.order.append(id)
            guard state.order.count > Self.most else { return }
            for old in state.order.prefix(Self.most / 10) { state.tasks[old] = nil }
            state.order.removeFirst(Self.most / 10)
        }
    }

    /// The answer about a task, whose images are at URLs below `base`; nil if there is no such task.
    func status(of id: String, base: String) -> JSONValue? {
        guard let task = state.withLockedValue({ $0.tasks[id] }), task.fate != .isLost else { return nil }
        let age = ContinuousClock.now - task.acceptedAt
        let isOver = age >= generation && task.fate != .isStuck
        var members = [JSONMember("id", .string(id))]
        switch (isOver, task.fate) {
        case (false, _):
            members.append(JSONMember("status", .string(age < generation / 4 ? "pending" : "processing")))
        case (true, .fails):
            members += [
                JSONMember("status", .string("failed")), JSONMember("error_code", .string("generation_error")),
                JSONMember("error_msg", .string("a fault was asked for")),
            ]
        case (true, _):
            let urls = (1...task.images).map { JSONValue.string("\(base)/images/\(id)-\($0).png") }
            members += [JSONMember("status", .string("completed")), JSONMember("result", .array(urls))]
        }
        return .object(members)
    }

    /// Whether an image of a task is there, by its number from 1.
    func hasImage(_ number: Int, of id: String) -> Bool {
        guard let task = state.withLockedValue({ $0.tasks[id] }), task.fate == .completes else { return false }
        return (1...task.images).contains(number) && ContinuousClock.now - task.acceptedAt >= generation
    }
}
