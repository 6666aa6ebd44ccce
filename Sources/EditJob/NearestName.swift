/// Finds the known name that a misspelt one most likely stands for.
package enum NearestName {
    /// The nearest of `candidates`, nil if none is near: more than a third of the letters differ.
    ///
    /// Case, `_`, `-` and blanks do not count, so `imageUrls` is `image_urls`; a name that is the tail or head of
    /// just one candidate is near too (`resolution`).
    package static func of(_ name: String, among candidates: [String]) -> String? {
        // Longer than any name by far: no slip of the finger, and the distance costs the product of lengths.
        guard name.utf8.count <= 64 else { return nil }
        let folded = fold(name)
        guard !folded.isEmpty else { return nil }
        let ranked = candidates.map { (name: $0, distance: distance(folded, fold($0))) }
        guard let best = ranked.min(by: { $0.distance < $1.distance }) else { return nil }
        if best.distance <= max(1, fold(best.name).count / 3) { return best.name }
        let kin = candidates.filter { candidate in
            let other = fold(candidate)
            return folded.count >= 3 && (other.ends(with: folded) || other.starts(with: folded))
        }
        return kin.count == 1 ? kin[0] : nil
    }

    private static func fold(_ name: String) -> [Character] {
        name.lowercased().filter { $0.isLetter || $0.isNumber }.map { $0 }
    }

    /// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
    private static func distance(_ one: [Character], _ other: [Character]) -> Int {
        var rows = [Array(0...other.count)]
        for i in one.indices {
            var row = [i + 1]
            for j in other.indices {
                var best = min(rows[i][j + 1] + 1, row[j] + 1, rows[i][j] + (one[i] == other[j] ? 0 : 1))
                if i > 0, j > 0, one[i] == other[j - 1], one[i - 1] == other[j] {
                    best = min(best, rows[i - 1][j - 1] + 1)
                }
                row.append(best)
            }
            rows.append(row)
        }
        return rows[one.count][other.count]
    }
}

extension [Character] {
    fileprivate func ends(with tail: [Character]) -> Bool {
        reversed().starts(with: tail.reversed())
    }
}
