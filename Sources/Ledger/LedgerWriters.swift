package import SharedValues

/// Whose records count: those of the own user, and of others that an operator has named.
///
/// Who may publish to the default exchange can write to the stream. The broker checks the `user_id` of a message, and a
/// stream keeps it. Source: RabbitMQ's "Validated User-ID".
package struct LedgerWriters: Hashable, Sendable {
    private let user: String?
    private let others: [WildcardPattern]

    /// The own user, nil if it is unknown: then everybody's records count.
    package init(user: String?, others: [WildcardPattern]) {
        self.user = user
        self.others = others
    }

    /// Whether the records of a user count; nil if the message says none.
    package func counts(_ writer: String?) -> Bool {
        guard let user else { return true }
        guard let writer else { return false }
        return writer == user || others.contains { $0.matches(writer) }
    }
}
