/// A limit for what takes time on an idle machine, longer by as much as the machine is slower at this moment.
///
/// The measure is the program's own start, which takes less than 200 ms on two idle cores.
package func paced(_ limit: Duration) async throws -> Duration {
    let start = ContinuousClock.now
    _ = try await Program.run(["--version"])
    return limit * max(1, (ContinuousClock.now - start) / .milliseconds(200))
}
