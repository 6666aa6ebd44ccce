import Glibc
import SharedValues

/// How far a long command has come, in the last line of a terminal; nothing elsewhere.
struct ProgressLine {
    private let terminal = Terminal(STDERR_FILENO)
    private let what: String
    private let total: Int?
    private let startedAt = ContinuousClock.now
    private var shownAt: ContinuousClock.Instant?

    /// Progress of `what`, such as `replayed`, up to a total where it is known.
    init(_ what: String, total: Int? = nil) {
        self.what = what
        self.total = total
    }

    /// Shows a count, at most ten times a second.
    mutating func show(_ done: Int) {
        guard terminal.width != nil else { return }
        let now = ContinuousClock.now
        if let shownAt, now - shownAt < .milliseconds(100) { return }
        shownAt = now
        Output.progress(line(done, after: now - startedAt))
    }

    func clear() { Output.progress("") }

    /// The line itself: a bar, the count, the rate and the time that is left.
    func line(_ done: Int, after elapsed: Duration) -> String {
        let seconds = max(0.001, elapsed / .seconds(1))
        let rate = Double(done) / seconds
        var text = "\(done)\(total.map { " of \($0)" } ?? "") \(what), \(Int(rate.rounded()))/s"
        guard let total, total > 0 else { return Terminal.cut(text, to: (terminal.width ?? 80) - 1) }
        if rate > 0, done < total {
            text += ", \(ShortDuration.text(.seconds(Double(total - done) / rate))) left"
        }
        let room = min(30, (terminal.width ?? 80) - text.count - 4)
        guard room >= 5 else { return Terminal.cut(text, to: (terminal.width ?? 80) - 1) }
        let full = min(room, room * done / total)
        return "[\(String(repeating: "#", count: full))\(String(repeating: "-", count: room - full))] \(text)"
    }
}
