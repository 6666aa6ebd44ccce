import OperatorTools
import Testing

struct ImagePriceTests {
    @Test(arguments: [
        (0.025, 1, "0.025"), (0.025, 3, "0.075"), (0.025, 40, "1.000"), (0.5, 3, "1.50"), (2, 7, "14.00"),
        (0, 5, "0.00"),
        (0.1, 3, "0.30"), (0.000_001, 1, "0.000001"), (0.000_000_01, 1, "0.00"),
        (1.1, 1_000_000_000, "1100000000.00"),
    ])
    func `a price is told with its decimals`(_ price: Double, _ images: Int, _ text: String) throws {
        #expect(try #require(ImagePrice(price)).text(images) == text)
    }

    @Test(arguments: [-1, .infinity, .nan]) func `what is no price is none`(_ price: Double) {
        #expect(ImagePrice(price) == nil)
    }
}
