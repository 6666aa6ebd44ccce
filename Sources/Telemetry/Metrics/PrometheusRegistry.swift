package import CoreMetrics
import NIOConcurrencyHelpers

/// A backend of swift-metrics that keeps all values in memory and writes them in Prometheus's text format 0.0.4.
///
/// Our own, because swift-prometheus cannot be had where this is built; 260 lines in all, and `promtool check metrics` is
/// one of the tests. Source: Prometheus's "Exposition formats", "Metric and label naming".
package final class PrometheusRegistry: MetricsFactory {
    /// Labels in the order of the text, as `{a="b"}`; empty for none.
    private typealias Labels = String

    private struct Family {
        let description: MetricFamily
        var series: [Labels: MetricSeries] = [:]
    }

    /// A metric that has more label values than this has them from outside; the rest would only cost memory.
    private static let mostSeries = 1000

    private let families: NIOLockedValueBox<[String: Family]>
    private let collect: @Sendable () -> [(MetricFamily, Double)]

    /// A registry of metrics that are described beforehand; one that is not described is a gauge without a sentence.
    ///
    /// `collect` gives the values that are only worth reading when they are asked for.
    package init(_ families: [MetricFamily], collect: @escaping @Sendable () -> [(MetricFamily, Double)] = { [] }) {
        let named = families.map { ($0.name, Family(description: $0)) }
        self.families = NIOLockedValueBox(Dictionary(named) { first, _ in first })
        self.collect = collect
    }

    /// The type of `text`, for `Content-Type`.
    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// All metrics as text, in the order of their names.
    package var text: String {
        let families = self.families.withLockedValue { $0 }
        let collected = collect()
            .map { family, value -> (String, String) in
                (family.name, Self.head(family) + "\(family.name) \(Self.number(value))\n")
            }
        let kept = families.values.map { ($0.description.name, Self.text(of: $0)) }
        return (kept + collected).sorted { $0.0 < $1.0 }.map(\.1).joined()
    }

    private static func text(of family: Family) -> String {
        guard !family.series.isEmpty else { return "" }
        let name = family.description.name
        var text = head(family.description)
        for (labels, series) in family.series.sorted(by: { $0.key < $1.key }) {
            let values = series.values
            guard case .histogram(let bounds) = family.description.kind else {
                text += "\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(number(values.value))\n"
                continue
            }
            var count: UInt64 = 0
            let separator = labels.isEmpty ? "" : ","
            for (bound, observations) in zip(bounds.map(number) + ["+Inf"], values.buckets) {
                count += observations
                text += "\(name)_bucket{\(labels)\(separator)le=\"\(bound)\"} \(count)\n"
            }
            let braced = labels.isEmpty ? "" : "{\(labels)}"
            text += "\(name)_sum\(braced) \(number(values.value))\n\(name)_count\(braced) \(count)\n"
        }
        return text
    }

    private static func head(_ family: MetricFamily) -> String {
        let type =
            switch family.kind {
            case .counter: "counter"
            case .gauge: "gauge"
            case .histogram: "histogram"
            }
        let help = family.help.replacing("\\", with: "\\\\").replacing("\n", with: "\\n")
        return "# HELP \(family.name) \(help)\n# TYPE \(family.name) \(type)\n"
    }

    /// Whole numbers without a fraction; Go reads the rest as Swift writes it.
    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int64(exactly: value) { return "\(whole)" }
        return "\(value)"
    }

    private func series(_ label: String, _ dimensions: [(String, String)]) -> MetricSeries {
        let labels = dimensions.map { "\(Self.name($0))=\"\(Self.escaped($1))\"" }.joined(separator: ",")
        let name = Self.name(label)
        return families.withLockedValue { families in
            var family = families[name] ?? Family(description: MetricFamily(name: name, help: name, kind: .gauge))
            if let series = family.series[labels] { return series }
            let series = MetricSeries(family.description.kind)
            guard family.series.count < Self.mostSeries else { return series }
            family.series[labels] = series
            families[name] = family
            return series
        }
    }

    private static func name(_ text: String) -> String {
        let allowed = text.unicodeScalars.map { scalar in
            scalar.isASCII && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil)
                || scalar == "_" || scalar == ":" ? Character(scalar) : "_"
        }
        return allowed.first?.isNumber == true ? "_" + String(allowed) : String(allowed)
    }

    private static func escaped(_ value: String) -> String {
        value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }

    // MARK: - MetricsFactory

    package func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        series(label, dimensions)
    }

    package func makeFloatingPointCounter(
        label: String,
        dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        series(label, dimensions)
    }

    package func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        series(label, dimensions)
    }

    package func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        series(label, dimensions)
    }

    package func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        series(label, dimensions)
    }

    /// A series without new values is still part of its total.
    package func destroyCounter(_ handler: any CounterHandler) {}
    package func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    package func destroyMeter(_ handler: any MeterHandler) {}
    package func destroyRecorder(_ handler: any RecorderHandler) {}
    package func destroyTimer(_ handler: any TimerHandler) {}
}
