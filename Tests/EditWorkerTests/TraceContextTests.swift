import EditWorker
import RabbitMQ
import Testing

struct TraceContextTests {
    private static let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    private static func context(_ parent: String, _ state: FieldValue? = nil) -> TraceContext? {
        var headers: FieldTable = ["traceparent": .text(parent)]
        headers["tracestate"] = state
        return TraceContext(headers)
    }

    @Test func `a valid context is passed on`() {
        #expect(Self.context(Self.valid)?.traceparent == Self.valid)
        #expect(Self.context(Self.valid, .text("a=b,c=d"))?.tracestate == "a=b,c=d")
        #expect(Self.context("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-0f") != nil)
    }

    @Test(arguments: [
        "", "x", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", valid + "-00", valid + "\r\nHost: evil",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", String(repeating: "a", count: 100_000),
    ])
    func `what is none is not`(_ parent: String) {
        #expect(Self.context(parent) == nil)
    }

    @Test(arguments: ["a=b\r\nX: y", "ü", "", String(repeating: "a", count: 513)])
    func `nor is a state that could break the request`(_ state: String) {
        #expect(Self.context(Self.valid, .text(state))?.tracestate == nil)
    }
}
