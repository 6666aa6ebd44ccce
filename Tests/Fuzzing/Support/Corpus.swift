import Foundation

/// The kept inputs of a fuzzer.
public enum Corpus {
    /// Runs every file of the directory that the first argument names, and prints their number.
    public static func replay(_ check: ([UInt8]) -> Void) {
        let directory = CommandLine.arguments.dropFirst().first ?? "."
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        for name in names.sorted() {
            guard let data = FileManager.default.contents(atPath: directory + "/" + name) else { continue }
            check(Array(data))
        }
        print("\(names.count) inputs")
    }
}
