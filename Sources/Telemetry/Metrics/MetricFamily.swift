/// What a metric is, for the text that Prometheus reads: `HELP`, `TYPE`, and a histogram's buckets.
package struct MetricFamily: Hashable, Sendable {
    /// How a metric's values are to be read.
    package enum Kind: Hashable, Sendable {
        case counter
        case gauge
        /// Durations in seconds, counted by upper bounds in ascending order; `+Inf` is added.
        case histogram([Double])
    }

    /// The name, `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    package let name: String
    /// A sentence about it.
    package let help: String
    /// How its values are to be read.
    package let kind: Kind

    package init(name: String, help: String, kind: Kind) {
        self.name = name
        self.help = help
        self.kind = kind
    }
}
