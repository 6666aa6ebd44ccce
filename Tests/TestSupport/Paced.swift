/// A limit for what takes time on an idle machine, longer by as much as the machine is slower at this moment.
///
/// The measure is the program's own start, which takes less than 200 ms on two idle cores; the slower one of three.
package func paced(_ limit: Duration) async throws -> Duration {
    var slowest = Duration.milliseconds(200)
    for _ in 0..<3 {
        let start = ContinuousClock.now
        _ = try await Program.run(["--version"])
        slowest = max(slowest, ContinuousClock.now - start)
    }
    return limit * (slowest / .milliseconds(200))
}
