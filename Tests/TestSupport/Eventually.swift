/// Nothing of what was awaited happened in time.
package struct DeadlinePassed: Error, CustomStringConvertible {
    package let description: String

    /// What did not happen.
    package init(description: String) {
        self.description = description
    }
}

/// Asks again and again until the answer is yes.
package func eventually(
    _ what: String,
    within limit: Duration = .seconds(60),
    _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard .now < deadline else { throw DeadlinePassed(description: "not within \(limit): \(what)") }
        // Asking without a pause would take the processor from what is awaited.
        try await Task.sleep(for: .milliseconds(20))
    }
}

/// The result of `body`, or an error where it takes too long.
package func within<Result: Sendable>(
    _ limit: Duration = .seconds(60),
    _ what: String,
    _ body: @escaping @Sendable () async throws -> Result
) async throws -> Result {
    try await withThrowingTaskGroup(of: Result.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: limit)
            throw DeadlinePassed(description: "not within \(limit): \(what)")
        }
        defer { group.cancelAll() }
        guard let result = try await group.next() else { throw CancellationError() }
        return result
    }
}
