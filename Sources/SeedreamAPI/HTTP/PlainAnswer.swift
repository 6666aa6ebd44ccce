/// An HTTP/1.1 answer in its plainest form: whole, with the length of its body, and with nothing that would change how
/// it or the connection is to be understood.
///
/// What is not as plain, NIO's decoder reads; what is, both understand alike, as a test with thousands of answers shows.
/// Our own, because the decoder, the handlers around it and its list of fields took a tenth of a job's instructions.
/// Source: RFC 9112 §2 to §6.
struct PlainAnswer {
    /// 200 to 599.
    let status: Int
    /// The value of the first `Retry-After` field.
    private(set) var retryAfter: Range<Int>?
    /// The value of the first `Date` field.
    private(set) var date: Range<Int>?
    /// The body, up to the last of the bytes.
    let body: Range<Int>

    /// Reads an answer; nil unless it is plain and ends with the bytes.
    init?(_ bytes: Span<UInt8>) {
        guard let first = Self.line(bytes, from: 0), let status = Self.status(bytes, first) else { return nil }
        self.status = status
        var position = first.upperBound + 2
        var length: Int?
        while let line = Self.line(bytes, from: position) {
            position = line.upperBound + 2
            guard !line.isEmpty else {
                guard let length, bytes.count - position == length else { return nil }
                body = position..<bytes.count
                return
            }
            guard let field = Field(bytes, line) else { return nil }
            switch field.name.count {
            case 4 where field.has("date", in: bytes): date = date ?? field.value
            case 11 where field.has("retry-after", in: bytes): retryAfter = retryAfter ?? field.value
            case 14 where field.has("content-length", in: bytes):
                guard length == nil, let number = Self.number(bytes, field.value) else { return nil }
                length = number
            case 10 where field.has("keep-alive", in: bytes): return nil
            case 10 where field.has("connection", in: bytes):
                guard field.value.count == 10, Field.equals("keep-alive", bytes, field.value.lowerBound) else {
                    return nil
                }
            case 7 where field.has("trailer", in: bytes) || field.has("upgrade", in: bytes): return nil
            case 16 where field.has("proxy-connection", in: bytes) || field.has("content-encoding", in: bytes):
                return nil
            case 17 where field.has("transfer-encoding", in: bytes): return nil
            default: break
            }
        }
        return nil
    }

    /// `HTTP/1.1 200 OK`; those without a body, and those that are no last answer, are not plain.
    private static func status(_ bytes: Span<UInt8>, _ line: Range<Int>) -> Int? {
        guard line.count >= 13, zip("HTTP/1.1 ".utf8, 0...).allSatisfy({ $0 == bytes[$1] }),
            bytes[12] == UInt8(ascii: " "), let status = number(bytes, 9..<12)
        else { return nil }
        return (200...599).contains(status) && status != 204 && status != 205 && status != 304 ? status : nil
    }

    /// A line of the head without its CRLF; nil if there is none, or anything in it but visible ASCII and blanks.
    private static func line(_ bytes: Span<UInt8>, from start: Int) -> Range<Int>? {
        var end = start
        while end < bytes.count, (0x20...0x7E).contains(bytes[end]) { end += 1 }
        guard end + 1 < bytes.count, bytes[end] == 0x0D, bytes[end + 1] == 0x0A else { return nil }
        return start..<end
    }

    /// At most five digits.
    private static func number(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Int? {
        guard (1...5).contains(range.count) else { return nil }
        var number = 0
        for index in range {
            let digit = Int(bytes[index]) - 0x30
            guard (0...9).contains(digit) else { return nil }
            number = number * 10 + digit
        }
        return number
    }
}

/// `name: value`, with a name of letters, digits and `-`, and one blank or none before the value and none behind it.
private struct Field {
    let name: Range<Int>
    let value: Range<Int>

    init?(_ bytes: Span<UInt8>, _ line: Range<Int>) {
        var colon = line.lowerBound
        while colon < line.upperBound, Self.isNameByte(bytes[colon]) { colon += 1 }
        guard colon > line.lowerBound, colon < line.upperBound, bytes[colon] == UInt8(ascii: ":") else { return nil }
        name = line.lowerBound..<colon
        var start = colon + 1
        if start < line.upperBound, bytes[start] == UInt8(ascii: " ") { start += 1 }
        value = start..<line.upperBound
        let blank = UInt8(ascii: " ")
        guard !value.isEmpty, bytes[start] != blank, bytes[value.upperBound - 1] != blank else { return nil }
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    /// Whether the name is this one, which is given in lower case.
    func has(_ name: String, in bytes: Span<UInt8>) -> Bool {
        self.name.count == name.utf8.count && Self.equals(name, bytes, self.name.lowerBound)
    }

    /// Whether a text stands there, in whatever case; the text has no upper case letters.
    static func equals(_ text: String, _ bytes: Span<UInt8>, _ start: Int) -> Bool {
        var index = start
        for byte in text.utf8 {
            let isLetter = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(bytes[index])
            guard byte == (isLetter ? bytes[index] | 0x20 : bytes[index]) else { return false }
            index += 1
        }
        return true
    }
}
