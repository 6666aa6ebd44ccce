import SharedValues
import Testing

struct RateLimitTests {
    @Test(arguments: [("18/10s", 18, 10), ("1/1m", 1, 60), ("1000/1s", 1000, 1)])
    func `a limit is read`(_ text: String, _ count: Int, _ seconds: Int) {
        #expect(RateLimit(text) == RateLimit(count: count, period: .seconds(seconds)))
    }

    @Test(arguments: ["", "18", "0/1s", "-1/1s", "18/", "18/10", "/10s", "18/0s", "a/1s", "18/10s/2", "1000001/1s"])
    func `another form is no limit`(_ text: String) {
        #expect(RateLimit(text) == nil)
    }

    @Test func `an interval is never so short that a window gains a start`() {
        let limit = RateLimit(count: 7, period: .seconds(1))
        #expect(limit.interval * 7 > .seconds(1))
        #expect(limit.text == "7/1s")
        #expect(limit.mostHeld(within: .seconds(15)) == 104)
        #expect(limit.mostHeld(within: .zero) == 1)
    }
}
