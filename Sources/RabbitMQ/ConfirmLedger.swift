import DequeModule

/// Keeps what was published on a confirming channel until the broker has answered for it.
///
/// The broker numbers the messages of a channel from 1 and confirms them one by one or up to a number; both are
/// linear over the life of a channel.
/// Source: RabbitMQ's "Consumer Acknowledgements and Publisher Confirms", "Publisher Confirms".
package struct ConfirmLedger<Entry> {
    /// The number of the first of `entries`.
    private var lowest: UInt64 = 1
    private var entries: Deque<Entry?> = []

    package init() {}

    /// Messages without an answer.
    package private(set) var count = 0

    /// Notes a message as published; its number is one above the last.
    package mutating func append(_ entry: Entry) {
        entries.append(entry)
        count += 1
    }

    /// The oldest message without an answer.
    package var oldest: Entry? {
        entries.first ?? nil
    }

    /// Takes out the message `number`, or all up to it; in the order of publishing, without those answered before.
    package mutating func settle(_ number: UInt64, multiple: Bool) -> [Entry] {
        guard number >= lowest, number < lowest + UInt64(entries.count) else { return [] }
        let end = Int(number - lowest)
        var settled: [Entry] = []
        for index in (multiple ? 0 : end)...end {
            guard let entry = entries[index].take() else { continue }
            settled.append(entry)
        }
        count -= settled.count
        while let first = entries.first, first == nil {
            entries.removeFirst()
            lowest += 1
        }
        return settled
    }

    /// Takes out all messages, for a connection that ends.
    package mutating func settleAll() -> [Entry] {
        guard count > 0 else { return [] }
        return settle(lowest + UInt64(entries.count) - 1, multiple: true)
    }

    /// Changes the first message without an answer that `isMatch` accepts; false if there is none.
    package mutating func updateFirst(where isMatch: (Entry) -> Bool, _ update: (inout Entry) -> Void) -> Bool {
        for index in entries.indices {
            guard var entry = entries[index], isMatch(entry) else { continue }
            update(&entry)
            entries[index] = entry
            return true
        }
        return false
    }
}

extension ConfirmLedger: Sendable where Entry: Sendable {}
