import EditJob
import JSON
import OperatorTools
import Testing

struct JobCorrectionTests {
    private static let job = #"{"image_urls":["https://example.com/a.png"],"prompt":"x"}"#

    private static func set(_ text: String, of job: String = job) throws -> String {
        let assignment = try #require(JobCorrection.Assignment(text))
        let changed = try JobCorrection.set([assignment])
            .applied(to: Array(job.utf8), unknownFields: UnknownFieldPolicy.reject)
        return String(decoding: changed, as: UTF8.self)
    }

    @Test func `a value is set where the pointer says, as JSON if it is that`() throws {
        #expect(try Self.set("/prompt=make it blue").contains(#""prompt":"make it blue""#))
        #expect(try Self.set("/max_images=2").contains(#""max_images":2"#))
        #expect(try Self.set("/prompt=a=b").contains(#""prompt":"a=b""#))
        #expect(try Self.set("/image_urls/0=https://example.com/b.png").contains("b.png"))
    }

    @Test(arguments: ["", "prompt=x", "/prompt", "=x"])
    func `another text is no assignment`(_ text: String) {
        #expect(JobCorrection.Assignment(text) == nil)
    }

    @Test func `what would not be a job is refused, with the place`() {
        #expect { try Self.set("/max_images=many") } throws: { "\($0)".contains("/max_images") }
        #expect { try Self.set("/nothing/at/all=1") } throws: { "\($0)".contains("no place") }
        #expect { try Self.set("/prompt=x", of: "not json") } throws: { "\($0)".contains("--edit") }
    }

    @Test func `a text that was edited replaces only the one it was made from`() throws {
        let edited = Array(Self.job.replacing("x\"}", with: "y\"}").utf8)
        let correction = JobCorrection.replace(Array(Self.job.utf8), by: edited)
        #expect(try correction.applied(to: Array(Self.job.utf8), unknownFields: .reject) == edited)
        #expect(throws: JobCorrection.Fault.self) {
            try correction.applied(to: edited, unknownFields: .reject)
        }
        let broken = JobCorrection.replace(Array(Self.job.utf8), by: Array("{".utf8))
        #expect { try broken.applied(to: Array(Self.job.utf8), unknownFields: .reject) } throws: {
            "\($0)".contains("not valid JSON")
        }
    }
}
