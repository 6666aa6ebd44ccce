package import RabbitMQ

/// The W3C trace context of a job, where it has a valid one.
///
/// What is no trace context is not passed on: it could break the request, and then every job would look like a fault of
/// the API. Source: W3C Trace Context, §3.2 and §3.3.
package struct TraceContext: Hashable, Sendable {
    /// The `traceparent` field.
    package let traceparent: String
    /// The `tracestate` field, nil if there is none.
    package let tracestate: String?

    /// Reads the context from a job's headers; nil if there is no valid `traceparent`.
    package init?(_ headers: FieldTable?) {
        guard let parent = headers?[JobHeader.traceparent]?.text, Self.isTraceparent(parent) else { return nil }
        traceparent = parent
        tracestate = headers?[JobHeader.tracestate]?.text
            .flatMap { state in
                let isPlain = state.utf8.allSatisfy { (0x20...0x7E).contains($0) }
                return isPlain && (1...512).contains(state.utf8.count) ? state : nil
            }
    }

    /// 32 hexadecimal digits, by which logs and traces are found.
    package var traceID: String { String(traceparent.dropFirst(3).prefix(32)) }

    /// Version, trace id, parent id and flags in lower-case hexadecimal; later versions may have more behind.
    private static func isTraceparent(_ text: String) -> Bool {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 4, text.utf8.count <= 128, parts.prefix(4).map(\.utf8.count) == [2, 32, 16, 2],
            parts[0] != "ff", parts[0] != "00" || parts.count == 4
        else { return false }
        let isHexadecimal = parts.joined().utf8
            .allSatisfy { byte in
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
            }
        return isHexadecimal && parts[1].contains { $0 != "0" } && parts[2].contains { $0 != "0" }
    }
}
