/// Finds in a message what it repeats of a secret text, whatever stands between the letters.
enum RepeatedText {
    /// So many letters or digits in a row are no chance.
    private static let length = 8

    /// Whether the message has a run of the secret's letters and digits that is too long for chance, or all of a secret
    /// that is shorter.
    ///
    /// Case, white space, punctuation and the normal form do not matter: `Character` compares as Unicode's canonical
    /// equivalence does. A run is one number of eight bytes, one a letter of the message, so that a long secret costs one
    /// step a letter; two letters of a message with more than 255 different ones may share a number, which errs on the
    /// side of silence.
    static func repeats(_ secret: String, in message: String) -> Bool {
        var numbers: [Character: UInt64] = [:]
        let own = letters(of: secret)
        let isSymbols = !own.contains { $0.isLetter || $0.isNumber }
        let said = (isSymbols ? message.filter { !$0.isWhitespace }.map { $0 } : letters(of: message))
            .map { letter in
                let number = numbers[letter] ?? UInt64(numbers.count % 255 + 1)
                numbers[letter] = number
                return number
            }
        let secret = own.map { numbers[$0] ?? 0 }
        let length = min(length, secret.count)
        guard length > 0, said.count >= length else { return false }
        let runs = Set(Self.runs(of: said, length))
        return Self.runs(of: secret, length).contains { runs.contains($0) }
    }

    /// The letters and digits; all that can be seen where there are none, as in a text of emoji.
    private static func letters(of text: String) -> [Character] {
        let letters = text.lowercased().filter { $0.isLetter || $0.isNumber }
        return Array(letters.isEmpty ? text.filter { !$0.isWhitespace } : letters)
    }

    private static func runs(of numbers: [UInt64], _ length: Int) -> [UInt64] {
        let mask = length == 8 ? UInt64.max : (1 << UInt64(8 * length)) - 1
        var run: UInt64 = 0
        return numbers.enumerated()
            .compactMap { index, number in
                run = (run << 8 | number) & mask
                return index + 1 >= length ? run : nil
            }
    }
}
