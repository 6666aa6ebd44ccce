package import SharedValues

extension Timestamp {
    /// A moment as people give it: a time (RFC 3339), or how long before `now`, such as `2h` or `3d`; nil of anything else.
    package init?(ago text: String, before now: Timestamp) {
        if let moment = Timestamp(rfc3339: text) {
            self = moment
            return
        }
        let days = text.hasSuffix("d") ? Int64(text.dropLast()).flatMap { (0...100_000).contains($0) ? $0 : nil } : nil
        guard let seconds = days.map({ $0 * 86_400 }) ?? DurationText.parse(text)?.components.seconds else {
            return nil
        }
        self.init(milliseconds: now.milliseconds - min(seconds, 1_000_000_000_000) * 1000)
    }
}
