/// What the jobs of one `submit` have in common, and which of them are done: how an interrupted one goes on.
package struct SubmitRun: Hashable, Sendable {
    /// What the ids of jobs without an id of their own begin with; a job's number follows.
    package let prefix: String
    /// The numbers, from 1, of the jobs that need nothing more: ranges in their order that do not touch.
    package private(set) var done: [ClosedRange<Int>] = []

    package init() {
        prefix = String(UInt64.random(in: .min ... .max), radix: 36)
    }

    /// Reads `PREFIX:COUNT`, of which the first jobs are done, or `PREFIX:FIRST-LAST,…`; nil if it is neither.
    package init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, (1...64).contains(parts[0].utf8.count) else { return nil }
        prefix = String(parts[0])
        if let count = Int(parts[1]) {
            guard count >= 0 else { return nil }
            done = count > 0 ? [1...count] : []
            return
        }
        for part in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard ends.count == 2, let first = ends[0], let last = ends[1], first <= last,
                first > (done.last?.upperBound ?? 0)
            else { return nil }
            done.append(first...last)
        }
    }

    /// The value of `--resume` that goes on after what is done.
    package var text: String {
        guard let first = done.first else { return "\(prefix):0" }
        guard done.count > 1 || first.lowerBound > 1 else { return "\(prefix):\(first.upperBound)" }
        return "\(prefix):" + done.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ",")
    }

    /// How many are done.
    package var count: Int { done.reduce(0) { $0 + $1.count } }

    package func isDone(_ number: Int) -> Bool {
        let index = place(of: number)
        return index < done.count && done[index].contains(number)
    }

    /// Notes that a job needs nothing more.
    package mutating func finish(_ number: Int) {
        let index = place(of: number)
        guard index == done.count || !done[index].contains(number) else { return }
        let touchesNext = index < done.count && done[index].lowerBound == number + 1
        let touchesLast = index > 0 && done[index - 1].upperBound == number - 1
        switch (touchesLast, touchesNext) {
        case (true, true):
            done[index - 1] = done[index - 1].lowerBound...done[index].upperBound
            done.remove(at: index)
        case (true, false): done[index - 1] = done[index - 1].lowerBound...number
        case (false, true): done[index] = number...done[index].upperBound
        case (false, false): done.insert(number...number, at: index)
        }
    }

    /// The place of the first range that does not end before a number.
    private func place(of number: Int) -> Int {
        var (low, high) = (0, done.count)
        while low < high {
            let middle = (low + high) / 2
            if done[middle].upperBound < number { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
