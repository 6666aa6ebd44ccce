import NIOConcurrencyHelpers

/// The sessions of browsers: each has a cookie, and a token that its forms carry.
final class Sessions: Sendable {
    struct Session: Hashable, Sendable {
        /// The cookie's value.
        let id: String
        /// What every form of this session carries, and no other page can know.
        let formToken: String
        var isLoggedIn: Bool
        /// What the last action came to, to be shown once.
        var news: [String] = []
        fileprivate var usedAt = ContinuousClock.now
    }

    private static let most = 1000

    private let password: String?
    private let longestIdle: Duration
    private let sessions = NIOLockedValueBox<[String: Session]>([:])

    /// Without a password everybody who reaches the console is let in.
    init(password: String?, longestIdle: Duration = .seconds(12 * 3600)) {
        self.password = password
        self.longestIdle = longestIdle
    }

    /// The session of a cookie, nil if there is none.
    func session(_ id: String?) -> Session? {
        guard let id else { return nil }
        return sessions.withLockedValue { sessions in
            guard let session = sessions[id], .now - session.usedAt < longestIdle else {
                sessions[id] = nil
                return nil
            }
            sessions[id]?.usedAt = .now
            return session
        }
    }

    /// A new session; logged in at once if there is no password.
    func begin(isLoggedIn: Bool = false) -> Session {
        let session = Session(id: Self.secret(), formToken: Self.secret(), isLoggedIn: isLoggedIn || password == nil)
        sessions.withLockedValue { sessions in
            // Visitors who have not logged in never push out those who have.
            if sessions.count >= Self.most,
                let oldest = sessions.values.min(by: {
                    ($0.isLoggedIn ? 1 : 0, $0.usedAt) < ($1.isLoggedIn ? 1 : 0, $1.usedAt)
                })
            {
                sessions[oldest.id] = nil
            }
            sessions[session.id] = session
        }
        return session
    }

    func end(_ session: Session) {
        sessions.withLockedValue { $0[session.id] = nil }
    }

    /// Whether a password is the right one, without telling by the time it takes where it differs.
    func isRight(_ attempt: String) -> Bool {
        guard let password else { return true }
        return Self.areEqual(attempt, password)
    }

    /// Leaves something to be shown with the session's next page.
    func tell(_ news: String, _ session: Session) {
        sessions.withLockedValue { $0[session.id]?.news.append(news) }
    }

    /// Takes what is to be shown.
    func takeNews(_ session: Session) -> [String] {
        sessions.withLockedValue { sessions in
            defer { sessions[session.id]?.news = [] }
            return sessions[session.id]?.news ?? []
        }
    }

    /// Compares in a time that does not depend on where two texts differ.
    static func areEqual(_ one: String, _ other: String) -> Bool {
        let (one, other) = (Array(one.utf8), Array(other.utf8))
        var difference = one.count ^ other.count
        for index in one.indices { difference |= Int(one[index] ^ (other.isEmpty ? 0 : other[index % other.count])) }
        return difference == 0
    }

    /// 256 random bits; `SystemRandomNumberGenerator` is the kernel's on Linux.
    private static func secret() -> String {
        (0..<4).map { _ in String(UInt64.random(in: .min ... .max), radix: 36) }.joined(separator: "-")
    }
}
