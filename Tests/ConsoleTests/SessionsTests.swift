import Testing

@testable import Console

struct SessionsTests {
    @Test func `a session is known by its cookie until it ends`() {
        let sessions = Sessions(password: "right")
        let one = sessions.begin()
        let two = sessions.begin(isLoggedIn: true)
        #expect(!one.isLoggedIn && two.isLoggedIn)
        #expect(Set([one.id, one.formToken, two.id, two.formToken]).count == 4)
        #expect(sessions.session(one.id)?.formToken == one.formToken)
        #expect(sessions.session(nil) == nil && sessions.session("guess") == nil)
        sessions.end(one)
        #expect(sessions.session(one.id) == nil)
        #expect(sessions.session(two.id) != nil)
        #expect(Sessions(password: nil).begin().isLoggedIn)
    }

    @Test func `a session that nobody uses ends`() {
        let sessions = Sessions(password: "right", longestIdle: .zero)
        #expect(sessions.session(sessions.begin(isLoggedIn: true).id) == nil)
    }

    @Test func `visitors do not push out who is logged in`() {
        let sessions = Sessions(password: "right")
        let staff = sessions.begin(isLoggedIn: true)
        for _ in 0..<1100 { _ = sessions.begin() }
        #expect(sessions.session(staff.id) != nil)
    }

    @Test func `news are shown once`() {
        let sessions = Sessions(password: nil)
        let session = sessions.begin()
        sessions.tell("3 jobs replayed", session)
        #expect(sessions.takeNews(session) == ["3 jobs replayed"])
        #expect(sessions.takeNews(session) == [])
    }

    @Test(arguments: [
        ("right", true), ("", false), ("righ", false), ("rightright", false), ("Right", false), ("right\0", false),
    ])
    func `only the right password is right`(_ attempt: String, _ isRight: Bool) {
        #expect(Sessions(password: "right").isRight(attempt) == isRight)
        #expect(Sessions(password: "").isRight(attempt) == attempt.isEmpty)
        #expect(Sessions(password: nil).isRight(attempt))
    }
}
