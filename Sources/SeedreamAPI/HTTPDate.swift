import SharedValues

/// Reads HTTP's dates in their three forms.
///
/// Our own 50 lines: FoundationEssentials reads none of the three.
///
/// Source: RFC 9110 §5.6.7. Day names are not checked against the date: servers get them wrong, and nothing needs them.
enum HTTPDate {
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    /// The moment, nil if the text is none of the three forms.
    static func parse(_ text: String, now: Timestamp) -> Timestamp? {
        let words = text.split(separator: " ").map(String.init)
        // Sun, 06 Nov 1994 08:49:37 GMT
        if words.count == 6, words[0].hasSuffix(","), words[5] == "GMT", words[3].utf8.count == 4 {
            return moment(day: words[1], month: words[2], year: number(words[3]), clock: words[4])
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        if words.count == 4, words[0].hasSuffix(","), words[3] == "GMT" {
            let parts = words[1].split(separator: "-").map(String.init)
            guard parts.count == 3, parts[2].utf8.count == 2, let short = number(parts[2]) else { return nil }
            return moment(day: parts[0], month: parts[1], year: fullYear(short, now: now), clock: words[2])
        }
        // Sun Nov  6 08:49:37 1994
        if words.count == 5, words[4].utf8.count == 4 {
            return moment(day: words[2], month: words[1], year: number(words[4]), clock: words[3])
        }
        return nil
    }

    /// A two-digit year more than 50 years ahead belongs to the past century.
    private static func fullYear(_ short: Int, now: Timestamp) -> Int {
        let current = Int(now.description.prefix(4)) ?? 2000
        let year = current - current % 100 + short
        return year > current + 50 ? year - 100 : year
    }

    private static func moment(day: String, month: String, year: Int?, clock: String) -> Timestamp? {
        let parts = clock.split(separator: ":", omittingEmptySubsequences: false).map { number(String($0)) }
        guard let year, let day = number(day), let month = months.firstIndex(of: month), parts.count == 3,
            let hour = parts[0], let minute = parts[1], let second = parts[2],
            (1...31).contains(day), hour < 24, minute < 60, second <= 60
        else { return nil }
        return Timestamp(year: year, month: month + 1, day: day, hour: hour, minute: minute, second: second)
    }

    private static func number(_ text: String) -> Int? {
        guard !text.isEmpty, text.utf8.count <= 4,
            text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return Int(text)
    }
}
