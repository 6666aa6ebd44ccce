/// The price of an image, for estimates.
package struct ImagePrice: Sendable {
    private let amount: Double

    /// Nil if it is no number from 0.
    package init?(_ amount: Double) {
        guard amount.isFinite, amount >= 0 else { return nil }
        self.amount = amount
    }

    /// What `images` images cost.
    package func estimate(_ images: Int) -> Double { amount * Double(images) }

    /// What `images` images cost, to the cent, or with as many decimals as the price has: a few of them may cost less than one.
    package func text(_ images: Int) -> String {
        let (decimals, unit) = decimals
        let units = (estimate(images) * unit).rounded()
        guard units < 1e15 else { return "\(units / unit)" }
        let (whole, part) = Int64(units).quotientAndRemainder(dividingBy: Int64(unit))
        let digits = String(part)
        return "\(whole).\(String(repeating: "0", count: max(0, decimals - digits.utf8.count)))\(digits)"
    }

    /// The decimals of the price, from two to six, and the power of ten that they count in.
    private var decimals: (count: Int, unit: Double) {
        var (count, unit) = (2, 100.0)
        while count < 6, ((amount * unit).rounded() - amount * unit).magnitude > 1e-6 {
            (count, unit) = (count + 1, unit * 10)
        }
        return (count, unit)
    }
}
