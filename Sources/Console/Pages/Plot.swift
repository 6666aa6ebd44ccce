import SharedValues

/// Counts over time as lines, drawn here so that they need no script.
enum Plot {
    private static let width = 720, height = 180, left = 48, bottom = 24, top = 12

    /// The lines of some kinds, with a legend; empty before there are two samples.
    static func lines(_ samples: [QueueSampler.Sample], _ kinds: [QueueSampler.Kind]) -> HTML {
        guard let first = samples.first, let last = samples.last, first.at.milliseconds < last.at.milliseconds else {
            return Layout.empty(
                "The plot begins in a few seconds: it shows what this console has seen since it started."
            )
        }
        let shown = kinds.filter { kind in samples.contains { ($0.counts[kind.rawValue] ?? 0) > 0 } }
        let most = shown.flatMap { kind in samples.map { $0.counts[kind.rawValue] ?? 0 } }.max() ?? 0
        let ceiling = roundedUp(max(4, most))
        let span = Double(last.at.milliseconds - first.at.milliseconds)
        func x(_ sample: QueueSampler.Sample) -> Int {
            left + Int(Double(width - left - 8) * Double(sample.at.milliseconds - first.at.milliseconds) / span)
        }
        func y(_ count: Int) -> Int { top + Int(Double(height - top - bottom) * (1 - Double(count) / Double(ceiling))) }
        let grid = [0, ceiling / 2, ceiling]
            .map { count -> HTML in
                """
                <line class="grid" x1="\(left)" x2="\(width)" y1="\(y(count))" y2="\(y(count))"/>
                <text x="\(left - 8)" y="\(y(count) + 4)" text-anchor="end">\(count)</text>
                """
            }
        // A point for every pixel at most.
        let step = max(1, samples.count / width + 1)
        let lines = shown.map { kind -> HTML in
            let points = samples.enumerated().filter { $0.offset % step == 0 || $0.offset == samples.count - 1 }
                .map { "\(x($0.element)),\(y($0.element.counts[kind.rawValue] ?? 0))" }
            return "<polyline class=\"line kind-\(kind.rawValue)\" points=\"\(points.joined(separator: " "))\"/>"
        }
        let minutes = Int(span / 60_000)
        let ago = minutes > 0 ? "\(minutes) min ago" : "\(Int(span / 1000)) s ago"
        let legend = shown.map { "<li><i class=\"kind-\($0.rawValue)\"></i>\($0.title)</li>" as HTML }
        let words = shown.map { "\($0.title): \(last.counts[$0.rawValue] ?? 0) now" }.joined(separator: ", ")
        return """
            <figure><svg viewBox="0 0 \(width) \(height)" role="img" aria-label="Messages over time. \(words)">\(grid)\(lines)
            <text x="\(left)" y="\(height - 6)">\(ago)</text>
            <text x="\(width - 4)" y="\(height - 6)" text-anchor="end">now</text></svg>
            <figcaption><ul class="legend">\(legend)</ul>\(shown.isEmpty ? "Nothing has waited anywhere in this time." : "")
            </figcaption></figure>
            """
    }

    /// The next number that people count in: 1, 2 or 5 and zeros.
    private static func roundedUp(_ number: Int) -> Int {
        var unit = 1
        while true {
            for step in [1, 2, 4, 5] where step * unit >= number && (step * unit) % 2 == 0 { return step * unit }
            let (next, isTooLarge) = unit.multipliedReportingOverflow(by: 10)
            guard !isTooLarge else { return number }
            unit = next
        }
    }
}
