import Glibc

/// A moment as the wall clock tells it, in whole milliseconds since 1970 UTC.
package struct Timestamp: Hashable, Comparable, Sendable {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    package let milliseconds: Int64

    /// Takes milliseconds since 1970.
    package init(milliseconds: Int64) {
        self.milliseconds = milliseconds
    }

    /// The moment of a civil date and time in UTC, by the proleptic Gregorian calendar.
    ///
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
    package init(year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int) {
        let shifted = month <= 2 ? year - 1 : year
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        let days = era * 146_097 + dayOfEra - 719_468
        milliseconds = Int64(((days * 24 + hour) * 60 + minute) * 60 + second) * 1000
    }

    package static var now: Timestamp {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }

    /// Whole seconds since 1970, as AMQP's `timestamp` property counts.
    package var seconds: Int64 { milliseconds / 1000 }

    package static func < (one: Timestamp, other: Timestamp) -> Bool { one.milliseconds < other.milliseconds }
}

extension Timestamp: CustomStringConvertible {
    /// RFC 3339 with milliseconds, such as `2026-11-22T20:15:00.123Z`.
    package var description: String {
        let (day, time) = milliseconds.quotientAndRemainder(dividingBy: 86_400_000)
        let days = time < 0 ? day - 1 : day
        let rest = time < 0 ? time + 86_400_000 : time
        let (year, month, dayOfMonth) = Self.civil(days)
        // Digit by digit: every reply has one, and strings of its parts cost more than the rest of the reply.
        var text: [UInt8] = []
        text.reserveCapacity(24)
        func append(_ number: Int64, _ digits: Int, then end: UInt8) {
            if number < 0 { text.append(UInt8(ascii: "-")) }
            let number = abs(number)
            var unit: Int64 = digits == 2 ? 10 : digits == 3 ? 100 : 1000
            // A year beyond 9999 has more digits.
            while number / unit >= 10 { unit *= 10 }
            while unit > 0 {
                text.append(UInt8(ascii: "0") + UInt8(number / unit % 10))
                unit /= 10
            }
            text.append(end)
        }
        append(year, 4, then: UInt8(ascii: "-"))
        append(month, 2, then: UInt8(ascii: "-"))
        append(dayOfMonth, 2, then: UInt8(ascii: "T"))
        append(rest / 3_600_000, 2, then: UInt8(ascii: ":"))
        append(rest / 60_000 % 60, 2, then: UInt8(ascii: ":"))
        append(rest / 1000 % 60, 2, then: UInt8(ascii: "."))
        append(rest % 1000, 3, then: UInt8(ascii: "Z"))
        return String(decoding: text, as: UTF8.self)
    }

    /// Source: as above, `civil_from_days`.
    private static func civil(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }
}

extension Timestamp {
    /// Reads a time of RFC 3339 §5.6, to the millisecond; nil if the text is nothing of the kind.
    package init?(rfc3339 text: String) {
        let pattern = /(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))/
            .asciiOnlyDigits()
        guard let match = text.wholeMatch(of: pattern)?.output, let year = Int(match.1), let month = Int(match.2),
            let day = Int(match.3), let hour = Int(match.4), let minute = Int(match.5), let second = Int(match.6),
            (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60
        else { return nil }
        let offset = (match.9.flatMap { Int64($0) } ?? 0) * 60 + (match.10.flatMap { Int64($0) } ?? 0)
        let sign: Int64 = match.8 == "-" ? 1 : -1
        let fraction = match.7.flatMap { Int64(($0 + "00").prefix(3)) } ?? 0
        let local = Timestamp(year: year, month: month, day: day, hour: hour, minute: minute, second: second)
        self.init(milliseconds: local.milliseconds + fraction + sign * offset * 60_000)
    }
}
