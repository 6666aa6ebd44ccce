/// Decides how the settled deliveries of a channel are acknowledged in the fewest frames.
///
/// A run without gaps from the lowest open tag goes out as one `multiple`, the rest one by one: a slow job holds back
/// no acknowledgement. A `multiple` always ends on a tag that is still pending, because the broker closes the
/// channel on one that it no longer knows.
/// Source: RabbitMQ's "Consumer Acknowledgements and Publisher Confirms", "Acknowledging Multiple Deliveries at Once".
package struct AcknowledgementLedger: Sendable {
    /// One `basic.ack` frame.
    package struct Acknowledgement: Hashable, Sendable {
        /// The tag to acknowledge.
        package let number: UInt64
        /// Whether all open tags below it are meant too.
        package let multiple: Bool

        package init(number: UInt64, multiple: Bool) {
            self.number = number
            self.multiple = multiple
        }
    }

    private enum State {
        case open
        case settled
        case gone
    }

    /// The tag of `states[head]`.
    ///
    /// An array with a head of its own, because a Deque costs 244 instructions per acknowledgement instead of 221 here.
    private var lowest: UInt64 = 1
    private var states: [State] = []
    private var head = 0
    /// Settled since the last flush, in the order of settling.
    private var settled: [UInt64] = []

    package init() {}

    /// Deliveries that are neither acknowledged nor rejected.
    package private(set) var openCount = 0

    /// The tag of the next delivery.
    package var next: UInt64 { lowest + UInt64(states.count - head) }

    /// Deliveries from a tag on that are neither acknowledged nor rejected; linear in those that are kept.
    package func openCount(from number: UInt64) -> Int {
        guard number > lowest else { return openCount }
        guard number < next else { return 0 }
        return states[index(of: number)...].count { $0 == .open }
    }

    /// Notes a delivery.
    ///
    /// Tags rise by one on a channel; false for one that does not, which is a broker's fault.
    package mutating func opened(_ number: UInt64) -> Bool {
        guard number == next else { return false }
        states.append(.open)
        openCount += 1
        return true
    }

    /// Marks a delivery for acknowledgement; false if it is unknown or was settled before.
    package mutating func settle(_ number: UInt64) -> Bool {
        guard close(number, as: .settled) else { return false }
        settled.append(number)
        return true
    }

    /// Takes out a delivery that is rejected or returned by a frame of its own; false as in `settle`.
    package mutating func remove(_ number: UInt64) -> Bool {
        close(number, as: .gone)
    }

    /// The frames for all that was settled since the last call.
    package mutating func flush() -> [Acknowledgement] {
        guard !settled.isEmpty else { return [] }
        var frames: [Acknowledgement] = []
        if let run = takeRun() {
            frames.append(run)
        }
        for number in settled where number >= lowest {
            states[index(of: number)] = .gone
            frames.append(Acknowledgement(number: number, multiple: false))
        }
        settled.removeAll(keepingCapacity: true)
        return frames
    }

    /// Removes what is closed from the low end, and gives the one frame that acknowledges it.
    private mutating func takeRun() -> Acknowledgement? {
        var last: UInt64?
        var count = 0
        while head < states.count, states[head] != .open {
            if states[head] == .settled {
                last = lowest
                count += 1
            }
            head += 1
            lowest += 1
        }
        compact()
        return last.map { Acknowledgement(number: $0, multiple: count > 1) }
    }

    private mutating func close(_ number: UInt64, as state: State) -> Bool {
        guard number >= lowest, number < next else { return false }
        guard states[index(of: number)] == .open else { return false }
        states[index(of: number)] = state
        openCount -= 1
        return true
    }

    private func index(of number: UInt64) -> Int { head + Int(number - lowest) }

    /// Gives the room of removed entries back once they are the larger part: constant cost an entry.
    private mutating func compact() {
        guard head > 64, head > states.count / 2 else { return }
        states.removeFirst(head)
        head = 0
    }
}
