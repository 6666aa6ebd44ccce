import SharedValues
import Testing

struct DurationTextTests {
    @Test(
        arguments: [
            (0, "0s"), (1, "1ms"), (1000, "1s"), (1500, "1500ms"), (90_000, "90s"), (120_000, "2m"), (3_600_000, "1h"),
        ] as [(Int, String)]
    )
    func `a duration is written in its largest whole unit`(_ milliseconds: Int, _ text: String) {
        #expect(DurationText.text(.milliseconds(milliseconds)) == text)
        #expect(DurationText.parse(text) == .milliseconds(milliseconds))
    }

    @Test(arguments: ["", "1", "s", "-1s", "1.5s", "1 s", "1S", "1d", "99999999999999999999s", "9999999h"])
    func `another form is no duration`(_ text: String) {
        #expect(DurationText.parse(text) == nil)
    }

    @Test(arguments: [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d")])
    func `for people a duration has its largest unit only`(_ seconds: Int, _ text: String) {
        #expect(ShortDuration.text(.seconds(seconds)) == text)
    }
}
