import OperatorTools
import TestSupport
import Testing

struct SubmitRunTests {
    @Test(arguments: ["", "x", ":", "x:y", "x:-1", "x:3-1", "x:1-2,2-3", "x:1-2,", "x:0-2", "x:1", "x:1-2,5-5", "x:0"])
    func `a run is read as it is written`(_ text: String) {
        let isRight = ["x:1", "x:1-2,5-5", "x:0"].contains(text)
        #expect((SubmitRun(text) != nil) == isRight)
        if isRight { #expect(SubmitRun(text)?.text == text) }
    }

    @Test func `whatever order jobs end in, each is done once, and the others are not`() throws {
        var random = SeededGenerator(seed: 3)
        for _ in 0..<100 {
            var run = SubmitRun()
            var ended: Set<Int> = []
            for number in (1...60).shuffled(using: &random).prefix(Int.random(in: 0...60, using: &random)) {
                run.finish(number)
                run.finish(number)
                ended.insert(number)
            }
            let read = try #require(SubmitRun(run.text))
            #expect(read == run && run.count == ended.count)
            #expect((1...61).allSatisfy { run.isDone($0) == ended.contains($0) }, "\(run.text)")
            #expect(zip(run.done, run.done.dropFirst()).allSatisfy { $0.upperBound + 1 < $1.lowerBound }, "\(run.text)")
        }
    }

    @Test(arguments: [
        (["submit", "jobs.ndjson", "--wait"], "seedream-worker submit --resume a:3 jobs.ndjson --wait"),
        (["submit", "my jobs.ndjson", "--resume", "a:1"], "seedream-worker submit --resume a:3 'my jobs.ndjson'"),
        (["submit", "--resume=a:1", "it's"], "seedream-worker submit --resume a:3 'it'\\''s'"),
        (["submit", "x", "--amqp-url", "amqp://u:secret@h/"], "seedream-worker submit --resume a:3 x"),
        (["submit", "x", "--amqp-url=amqp://u:secret@h/"], "seedream-worker submit --resume a:3 x"),
        (["submit", "--", "-x"], "seedream-worker submit --resume a:3 -- -x"),
        (["submit", "x", "--amqp-url", "amqp://h/v"], "seedream-worker submit --resume a:3 x --amqp-url amqp://h/v"),
    ])
    func `a command line is given once more`(_ arguments: [String], _ line: String) {
        #expect(CommandLineAgain.text(["/usr/bin/seedream-worker"] + arguments, setting: "--resume", to: "a:3") == line)
    }
}
