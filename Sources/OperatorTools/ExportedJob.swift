import Glibc
import JSON

/// A job as `dead-letters export` writes it: with `dead_letter`, a member that is not the job's own.
package struct ExportedJob: Sendable {
    /// The job's id, nil if it had none.
    package let id: String?
    /// The job's text without the member.
    package let text: [UInt8]
    /// The queue that the job named for its reply; nil for a requester that waited on a direct reply-to, and is gone.
    package let replyTo: String?
    /// The job's correlation id.
    package let correlationID: String?
    /// Whether the job may have been paid for, so that submitting it again needs consent.
    package let mayHaveBeenCharged: Bool
    /// How often the job had been replayed.
    package let replayCount: Int32

    /// The names of the facts that travel with an exported job.
    enum Fact {
        static let charged = "charged"
        static let mayBeDuplicate = "may_be_duplicate"
        static let replayCount = "replay_count"
        static let replyTo = "reply_to"
        static let correlationID = "correlation_id"
    }

    /// Reads a job's text; nil if it was not exported.
    package init?(_ text: [UInt8]) {
        // Most jobs were not exported, and are not to be parsed once more to learn it.
        guard Self.mentionsMember(text), case .object(let members)? = try? JSONValue(parsing: text),
            let facts = members.first(where: { $0.name == DeadLetter.exportMember })?.value
        else { return nil }
        let id = facts["job_id"]?.text
        self.id = id == DeadLetter.noID ? nil : id
        replyTo = Self.shortText(facts[Fact.replyTo]).flatMap { $0.hasPrefix("amq.rabbitmq.reply-to") ? nil : $0 }
        correlationID = Self.shortText(facts[Fact.correlationID])
        // What is not certain to have cost nothing may have.
        let isFree = facts[Fact.charged].map { $0.text == "no" } ?? true
        mayHaveBeenCharged = !isFree || facts[Fact.mayBeDuplicate] == .boolean(true)
        replayCount = Int32(clamping: max(0, facts[Fact.replayCount]?.exactInteger ?? 0))
        self.text = JSONValue.object(members.filter { $0.name != DeadLetter.exportMember }).encoded()
    }

    /// A text that AMQP takes for a name.
    private static func shortText(_ value: JSONValue?) -> String? {
        value?.text.flatMap { (1...255).contains($0.utf8.count) ? $0 : nil }
    }

    private static let quotedMember = Array("\"\(DeadLetter.exportMember)\"".utf8)
    /// Where the underscore stands in it: rarer in a job than a quotation mark, and so the better start of a search.
    private static let underscore = quotedMember.firstIndex(of: UInt8(ascii: "_")) ?? 0

    private static func mentionsMember(_ text: [UInt8]) -> Bool {
        unsafe text.withUnsafeBytes { text in
            guard let base = text.baseAddress else { return false }
            var start = 0
            while let found = unsafe memchr(base + start, Int32(UInt8(ascii: "_")), text.count - start) {
                let place = unsafe UnsafeRawPointer(found) - base
                start = place + 1
                let first = place - underscore
                if first >= 0, unsafe text[first...].starts(with: quotedMember) { return true }
            }
            return false
        }
    }
}
