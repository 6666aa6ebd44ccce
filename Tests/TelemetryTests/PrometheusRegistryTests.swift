import CoreMetrics
import Telemetry
import Testing

struct PrometheusRegistryTests {

    private static func registry() -> PrometheusRegistry {
        PrometheusRegistry([
            MetricFamily(name: "b_total", help: "A \\ in\ntwo lines.", kind: .counter),
            MetricFamily(name: "c_seconds", help: "Times.", kind: .histogram([0.1, 1])),
            MetricFamily(name: "never_used", help: "Nothing.", kind: .gauge),
        ])
    }

    @Test func `the text is what the format says`() {
        let registry = Self.registry()
        Counter(label: "b_total", dimensions: [("k", "a\"\\\n")], factory: registry).increment(by: 3)
        Counter(label: "b_total", dimensions: [("k", "a\"\\\n")], factory: registry).increment()
        let meter = Meter(label: "a", factory: registry)
        meter.set(2.5)
        meter.increment(by: 1)
        let timer = Timer(label: "c_seconds", dimensions: [("s", "x")], factory: registry)
        for milliseconds in [50, 100, 1000, 5000] { timer.recordMilliseconds(milliseconds) }
        #expect(
            registry.text == """
                # HELP a a
                # TYPE a gauge
                a 3.5
                # HELP b_total A \\\\ in\\ntwo lines.
                # TYPE b_total counter
                b_total{k="a\\"\\\\\\n"} 4
                # HELP c_seconds Times.
                # TYPE c_seconds histogram
                c_seconds_bucket{s="x",le="0.1"} 2
                c_seconds_bucket{s="x",le="1"} 3
                c_seconds_bucket{s="x",le="+Inf"} 4
                c_seconds_sum{s="x"} 6.15
                c_seconds_count{s="x"} 4

                """
        )
    }

    @Test func `names that the format does not know are made fit`() {
        let registry = Self.registry()
        Counter(label: "9 lives.of-a cat", dimensions: [("über", "ü")], factory: registry).increment()
        #expect(registry.text.contains("_9_lives_of_a_cat{_ber=\"ü\"} 1\n"))
    }

    @Test func `labels from outside are bounded`() {
        let registry = Self.registry()
        for number in 0..<5000 {
            Counter(label: "b_total", dimensions: [("k", "\(number)")], factory: registry).increment()
        }
        #expect(registry.text.split(separator: "\n").count == 1002)
    }

    @Test func `many threads lose no count`() async {
        let registry = Self.registry()
        let counter = Counter(label: "b_total", factory: registry)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask { for _ in 0..<10_000 { counter.increment() } }
            }
        }
        #expect(registry.text.contains("b_total 80000\n"))
    }

    @Test func `the process is told with the names that all use`() {
        let registry = PrometheusRegistry([], collect: ProcessMetrics.read)
        let text = registry.text
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            #expect(text.contains("# TYPE \(name) "))
            #expect(!text.contains("\n\(name) 0\n"))
        }
    }
}
