import Sandbox
import Testing

struct FaultMixTests {
    @Test(arguments: ["429=5", "reset=0.5", "hang=100", "envelope-401=0", "task-stuck=1", "599=1"])
    func `a share is read`(_ text: String) throws {
        let share = try #require(FaultMix.Share(text))
        #expect(text.hasPrefix("\(share.kind)="))
    }

    @Test(arguments: [
        "", "429", "429=", "=5", "200=5", "600=1", "429=-1", "429=101", "429=nan", "nothing=1", "429=1=2",
    ])
    func `another text is no share`(_ text: String) {
        #expect(FaultMix.Share(text) == nil)
    }

    @Test func `shares stand one after the other, and are at most all`() throws {
        let mix = try #require(FaultMix([.init(kind: .reset, percent: 10), .init(kind: .status(429), percent: 5)]))
        #expect(mix.fault(roll: 0) == .reset && mix.fault(roll: 9.99) == .reset)
        #expect(mix.fault(roll: 10) == .status(429) && mix.fault(roll: 14.99) == .status(429))
        #expect(mix.fault(roll: 15) == nil && mix.fault(roll: 99.9) == nil)
        #expect(FaultMix([.init(kind: .reset, percent: 60), .init(kind: .hang, percent: 41)]) == nil)
    }
}
