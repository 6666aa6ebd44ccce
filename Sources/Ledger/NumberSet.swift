/// Numbers that mostly follow on each other, such as those of one replica's messages.
struct NumberSet: Hashable, Sendable {
    /// Lost messages leave holes, and a forged one any: what lies between the lowest two is then taken for known.
    private static let mostRanges = 16

    /// In order, with a hole between each two.
    private var ranges: [ClosedRange<Int64>] = []

    func contains(_ number: Int64) -> Bool {
        guard let last = ranges.last, number < last.lowerBound else { return ranges.last?.contains(number) == true }
        return ranges.contains { $0.contains(number) }
    }

    mutating func insert(_ number: Int64) {
        guard !contains(number) else { return }
        let index = ranges.firstIndex { $0.lowerBound > number } ?? ranges.endIndex
        let isBehind = index > 0 && ranges[index - 1].upperBound == number &- 1
        let isBefore = index < ranges.endIndex && ranges[index].lowerBound == number &+ 1
        switch (isBehind, isBefore) {
        case (true, true):
            ranges[index - 1] = ranges[index - 1].lowerBound...ranges[index].upperBound
            ranges.remove(at: index)
        case (true, false): ranges[index - 1] = ranges[index - 1].lowerBound...number
        case (false, true): ranges[index] = number...ranges[index].upperBound
        case (false, false): ranges.insert(number...number, at: index)
        }
        if ranges.count > Self.mostRanges {
            ranges[1] = ranges[0].lowerBound...ranges[1].upperBound
            ranges.remove(at: 0)
        }
    }
}
