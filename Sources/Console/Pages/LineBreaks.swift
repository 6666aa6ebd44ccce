/// The line breaks of a text that went through a form.
///
/// A browser sends each as CR LF, whatever it was.
/// Source: WHATWG's "HTML", 4.10.21.8 "Constructing the entry list".
enum LineBreaks {
    /// The text with a line feed for each line break.
    static func withFeeds(_ text: String) -> String {
        var scalars = String.UnicodeScalarView()
        var wasReturn = false
        for scalar in text.unicodeScalars {
            if scalar != "\n" || !wasReturn { scalars.append(scalar == "\r" ? "\n" : scalar) }
            wasReturn = scalar == "\r"
        }
        return String(scalars)
    }

    static func areSame(_ one: String, _ other: String) -> Bool {
        withFeeds(one).utf8.elementsEqual(withFeeds(other).utf8)
    }

    /// A text with line feeds, in which the breaks of the lines that are as they were before are what they were.
    static func keeping(those before: String, in text: String) -> String {
        let old = lines(before)
        var new = lines(text)
        let start = zip(old, new).prefix { $0.text == $1.text }.count
        let end = zip(old[start...].reversed(), new[start...].reversed()).prefix { $0.text == $1.text }.count
        for index in 0..<start { new[index].ending = kept(old[index].ending, new[index].ending) }
        for index in 0..<end {
            let (from, to) = (old.count - 1 - index, new.count - 1 - index)
            new[to].ending = kept(old[from].ending, new[to].ending)
        }
        return new.reduce(into: "") { $0 += $1.text + $1.ending }
    }

    /// The last line has no break; one that is now the last has none either.
    private static func kept(_ old: String, _ new: String) -> String { old.isEmpty || new.isEmpty ? new : old }

    private static func lines(_ text: String) -> [(text: String, ending: String)] {
        var lines: [(text: String, ending: String)] = []
        var line = String.UnicodeScalarView()
        var rest = text.unicodeScalars[...]
        while let scalar = rest.popFirst() {
            guard scalar == "\r" || scalar == "\n" else {
                line.append(scalar)
                continue
            }
            let isPair = scalar == "\r" && rest.first == "\n"
            if isPair { rest.removeFirst() }
            lines.append((String(line), isPair ? "\r\n" : String(Character(scalar))))
            line = String.UnicodeScalarView()
        }
        return lines + [(String(line), "")]
    }
}
