import OperatorTools

extension DeadLetters {
    /// Jobs that were dealt with, by code.
    struct Tally: Sendable {
        private(set) var done = 0
        /// Those that were left where they are, because they may have been paid for.
        var left = 0
        /// Those that were left because they cannot be corrected so.
        var invalid = 0
        /// Those whose replies go to the queue of results, since their requesters are gone.
        var withoutRequester = 0
        /// Those that were left because they have no task to be looked at.
        var noTask = 0
        private var counts: [String: Int] = [:]

        mutating func count(_ letter: DeadLetter) {
            done += 1
            counts[letter.code, default: 0] += 1
        }

        /// The counts in one line, such as `: 3 invalid_job`; empty if there are none.
        var byCode: String {
            let sorted = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            let text = sorted.map { "\($0.value) \(Terminal.plain($0.key))" }.joined(separator: ", ")
            return text.isEmpty ? "" : ": \(text)"
        }
    }
}
