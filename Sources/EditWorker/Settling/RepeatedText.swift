/// Finds in a message what it repeats of a secret text, whatever stands between the letters.
///
/// Case, white space, punctuation and the normal form do not matter: `Character` compares as Unicode's canonical
/// equivalence does.
enum RepeatedText {
    /// This many letters or digits in a row are no coincidence.
    private static let length = 8

    private struct Letter {
        let character: Character
        /// The place of the character that it comes from.
        let place: Int
    }

    /// A message, read for the runs of letters in it.
    ///
    /// A run is one number of eight bytes, one a letter, so that a long secret costs one step a letter; two letters of a
    /// message with more than 255 different ones may share a number, which errs on the side of silence.
    private struct Said {
        let letters: [Letter]
        private let numbers: [UInt64]
        private let byCharacter: [Character: UInt64]
        private let runs: Set<UInt64>

        init(_ letters: [Letter]) {
            var byCharacter: [Character: UInt64] = [:]
            self.letters = letters
            numbers = letters.map { letter in
                let number = byCharacter[letter.character] ?? UInt64(byCharacter.count % 255 + 1)
                byCharacter[letter.character] = number
                return number
            }
            self.byCharacter = byCharacter
            runs = Set(RepeatedText.runs(of: numbers, RepeatedText.length))
        }

        /// The places of the message's characters, from the first to the last of each run that is one of the secret's.
        func places(of secret: [Letter]) -> [ClosedRange<Int>] {
            let secret = secret.map { byCharacter[$0.character] ?? 0 }
            let length = min(RepeatedText.length, secret.count)
            guard length > 0, letters.count >= length else { return [] }
            let own = Set(RepeatedText.runs(of: secret, length))
            // Nearly always nothing is repeated.
            if length == RepeatedText.length, own.isDisjoint(with: runs) { return [] }
            return RepeatedText.runs(of: numbers, length).enumerated()
                .compactMap { start, run in
                    own.contains(run) ? letters[start].place...letters[start + length - 1].place : nil
                }
        }
    }

    /// Whether the message has a run of the secret's letters and digits that is too long for chance, or all of a secret
    /// that is shorter.
    static func repeats(_ secret: String, in message: String) -> Bool {
        let own = letters(of: secret)
        return !Said(isSymbols(own) ? signs(of: message) : letters(of: message)).places(of: own).isEmpty
    }

    /// The message with a mark in the place of everything that it repeats of the secrets; of a secret that is shorter than a
    /// run only where it is a word of its own.
    static func removing(_ secrets: [String], from message: String) -> String {
        let characters = Array(message)
        let said = Said(letters(of: message))
        let signs = Said(signs(of: message))
        var taken: Set<Int> = []
        for secret in secrets {
            let own = letters(of: secret)
            let places = (isSymbols(own) ? signs : said).places(of: own)
            for range in places where !isWithinWord(range, characters) { taken.formUnion(range) }
        }
        guard !taken.isEmpty else { return message }
        var text = ""
        var isWithin = false
        for (place, character) in characters.enumerated() {
            let isTaken = taken.contains(place)
            if !isTaken { text.append(character) } else if !isWithin { text += "[removed]" }
            isWithin = isTaken
        }
        return text
    }

    private static func isSymbols(_ letters: [Letter]) -> Bool {
        !letters.contains { $0.character.isLetter || $0.character.isNumber }
    }

    /// Whether something that is too short for a run is a part of a longer word.
    private static func isWithinWord(_ range: ClosedRange<Int>, _ characters: [Character]) -> Bool {
        guard range.count < length else { return false }
        let neighbours = [range.lowerBound - 1, range.upperBound + 1].filter { characters.indices.contains($0) }
        return neighbours.contains { characters[$0].isLetter || characters[$0].isNumber }
    }

    /// The letters and digits; all that can be seen where there are none, as in a text of emoji.
    private static func letters(of text: String) -> [Letter] {
        let letters = text.enumerated()
            .flatMap { place, character in
                character.lowercased().filter { $0.isLetter || $0.isNumber }.map { Letter(character: $0, place: place) }
            }
        return letters.isEmpty ? signs(of: text) : letters
    }

    private static func signs(of text: String) -> [Letter] {
        text.enumerated().filter { !$0.element.isWhitespace }.map { Letter(character: $0.element, place: $0.offset) }
    }

    /// The numbers of all runs, by where they begin.
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
