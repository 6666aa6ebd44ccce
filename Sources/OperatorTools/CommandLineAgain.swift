/// The command line of this process once more, to be given to a shell.
package enum CommandLineAgain {
    /// The line with `option` set to `value`; a URL with a password is left out, and to be set in its variable.
    package static func text(_ arguments: [String], setting option: String, to value: String) -> String {
        var words: [String] = ["seedream-worker"]
        var rest = arguments.dropFirst()
        while let word = rest.popFirst() {
            if word == option {
                _ = rest.popFirst()
            } else if word.hasPrefix("\(option)=") || hasPassword(word) {
                continue
            } else if let next = rest.first, word.hasPrefix("--"), hasPassword(next) {
                _ = rest.popFirst()
            } else {
                words.append(word)
            }
        }
        // Behind the command: what follows `--` is no option.
        words.insert(contentsOf: [option, value], at: min(2, words.count))
        return words.map(quoted).joined(separator: " ")
    }

    private static func hasPassword(_ word: String) -> Bool {
        word.contains(/:\/\/[^\/@]*:[^\/@]*@/)
    }

    private static func quoted(_ word: String) -> String {
        let isPlain =
            !word.isEmpty
            && word.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."),
                    UInt8(ascii: "/"), UInt8(ascii: ":"), UInt8(ascii: ","), UInt8(ascii: "="), UInt8(ascii: "@"):
                    true
                default: false
                }
            }
        return isPlain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
    }
}
