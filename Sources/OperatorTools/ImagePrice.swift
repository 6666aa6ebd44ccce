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

    /// What `images` images cost, to the cent.
    package func text(_ images: Int) -> String {
        let cents = (estimate(images) * 100).rounded()
        guard cents < 1e15 else { return "\(cents / 100)" }
        let whole = Int64(cents)
        return "\(whole / 100).\(whole % 100 < 10 ? "0" : "")\(whole % 100)"
    }
}
