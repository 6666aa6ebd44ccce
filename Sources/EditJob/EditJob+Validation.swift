import Glibc
package import JSON

extension EditJob {
    /// Why a text or value is no job: the text is no JSON, or rules are broken.
    package enum Invalid: Error, Hashable, Sendable {
        /// The text is no JSON.
        case malformed(JSONParseError)
        /// All rules that the job breaks, in the order of the API's fields.
        case violations([Violation])
    }

    /// Reads and checks a job's text.
    package init(
        parsing text: some Collection<UInt8>,
        unknownFields: UnknownFieldPolicy = .reject
    ) throws(Invalid) {
        let value: JSONValue
        do {
            value = try JSONValue(parsing: text)
        } catch {
            throw .malformed(error)
        }
        try self.init(checking: value, unknownFields: unknownFields)
    }

    /// Checks a job that was read already.
    package init(checking value: JSONValue, unknownFields: UnknownFieldPolicy = .reject) throws(Invalid) {
        guard case .object(let members) = value else {
            throw .violations([
                Violation(.root, .type, "A job must be a JSON object, not a value of type \(value.typeName).")
            ])
        }
        var check = JobCheck(members: members)
        let imageURLs = check.imageURLs()
        let prompt = check.prompt()
        imageResolution = check.choice(.imageResolution)
        imageSize = check.choice(.imageSize)
        maxImages = check.integer(.maxImages, in: 1...6)
        seed = check.integer(.seed, in: Int64.min...Int64.max)
        additionalFields = check.unknownFields(unknownFields)
        guard let imageURLs, let prompt, check.violations.isEmpty else { throw .violations(check.violations) }
        self.imageURLs = imageURLs
        self.prompt = prompt
    }
}

/// One pass over a job's members that collects every violation.
private struct JobCheck {
    let members: [JSONMember]
    var violations: [Violation] = []
    /// Members that are fields of the API.
    private var known = 0

    init(members: [JSONMember]) {
        self.members = members
    }

    private func pointer(_ field: EditJob.Field) -> JSONPointer { .root.member(field.rawValue) }

    private mutating func value(_ field: EditJob.Field) -> JSONValue? {
        // By its index: every member in a variable would be a copy.
        guard let index = members.indices.first(where: { members[$0].name == field.rawValue }) else { return nil }
        known += 1
        return members[index].value
    }

    /// Notes a violation; its place is made only here, because most jobs have none.
    private mutating func violate(_ pointer: JSONPointer, _ code: Violation.Code, _ message: String) {
        violations.append(Violation(pointer, code, message))
    }

    mutating func imageURLs() -> [String]? {
        guard let value = value(.imageURLs) else {
            violate(pointer(.imageURLs), .required, "image_urls is missing; give 1 to 10 image URLs.")
            return nil
        }
        guard case .array(let elements) = value else {
            violate(
                pointer(.imageURLs),
                .type,
                "image_urls must be an array of 1 to 10 URLs, not a value of type \(value.typeName)."
            )
            return nil
        }
        if elements.isEmpty {
            violate(pointer(.imageURLs), .minItems, "image_urls is empty; give 1 to 10 image URLs.")
        }
        if elements.count > 10 {
            violate(
                pointer(.imageURLs),
                .maxItems,
                "image_urls has \(elements.count) elements; at most 10 are allowed."
            )
        }
        return elements.enumerated()
            .compactMap { index, element in
                guard let url = element.text else {
                    violate(
                        pointer(.imageURLs).element(index),
                        .type,
                        "An image URL must be a string, not a value of type \(element.typeName)."
                    )
                    return nil
                }
                if let fault = ImageURL.fault(in: url) {
                    violate(pointer(.imageURLs).element(index), .url, "The image URL \(fault).")
                }
                return url
            }
    }

    mutating func prompt() -> String? {
        guard let value = value(.prompt) else {
            violate(pointer(.prompt), .required, "prompt is missing; say what to do with the images.")
            return nil
        }
        guard let prompt = value.text else {
            violate(pointer(.prompt), .type, "prompt must be a string, not a value of type \(value.typeName).")
            return nil
        }
        let scalars = prompt.unicodeScalars
        if scalars.allSatisfy(\.properties.isWhitespace) {
            violate(pointer(.prompt), .blank, "prompt is empty or white space only; say what to do with the images.")
        }
        // A code point takes at most four bytes, so that most prompts need no counting.
        if prompt.utf8.count > 5000, scalars.count > 5000 {
            violate(pointer(.prompt), .maxLength, "prompt has \(scalars.count) code points; at most 5000 are allowed.")
        }
        if prompt.hasNUL {
            violate(pointer(.prompt), .nulCharacter, "prompt has a NUL character; remove it.")
        }
        return prompt
    }

    mutating func choice<Choice: RawRepresentable<String> & CaseIterable>(_ field: EditJob.Field) -> Choice? {
        guard let value = value(field) else { return nil }
        let known = Choice.allCases.map(\.rawValue)
        guard let text = value.text else {
            violate(
                pointer(field),
                .type,
                "\(field.rawValue) must be one of the strings \(known.joined(separator: ", ")), not a value of type \(value.typeName)."
            )
            return nil
        }
        guard let choice = Choice(rawValue: text) else {
            let hint = NearestName.of(text, among: known).map { " Did you mean \($0)?" } ?? ""
            violate(pointer(field), .enum, "\(field.rawValue) must be one of \(known.joined(separator: ", ")).\(hint)")
            return nil
        }
        return choice
    }

    mutating func integer(_ field: EditJob.Field, in range: ClosedRange<Int64>) -> Int64? {
        guard let value = value(field) else { return nil }
        guard let number = value.exactInteger else {
            violate(pointer(field), .type, "\(field.rawValue) must be an integer, not \(Self.describe(value)).")
            return nil
        }
        if number < range.lowerBound {
            violate(pointer(field), .minimum, "\(field.rawValue) is \(number); the least is \(range.lowerBound).")
        }
        if number > range.upperBound {
            violate(pointer(field), .maximum, "\(field.rawValue) is \(number); the most is \(range.upperBound).")
        }
        return number
    }

    private static func describe(_ value: JSONValue) -> String {
        guard case .real(let number) = value else { return "a value of type \(value.typeName)" }
        return number.rounded() == number ? "a number written as a real beyond 2^53" : "a number with a fraction"
    }

    /// What no other check has asked for: the last one.
    mutating func unknownFields(_ policy: UnknownFieldPolicy) -> [JSONMember] {
        guard known < members.count else { return [] }
        let unknown = members.filter { EditJob.Field(rawValue: $0.name) == nil }
        guard policy == .reject else { return unknown }
        let known = EditJob.Field.allCases.map(\.rawValue)
        for member in unknown {
            let hint =
                NearestName.of(member.name, among: known).map { "did you mean \($0)?" }
                ?? "known are \(known.joined(separator: ", "))."
            violate(.root.member(member.name), .unknownField, "The API has no such field; \(hint)")
        }
        return []
    }
}

extension String {
    /// Whether there is a NUL; `contains` over the UTF-8 view took 1.4 % of a job's CPU time.
    fileprivate var hasNUL: Bool {
        unsafe utf8.withContiguousStorageIfAvailable { bytes in
            guard let start = bytes.baseAddress else { return false }
            return unsafe memchr(start, 0, bytes.count) != nil
        } ?? utf8.contains(0)
    }
}
