/// Immutable bytes without a stored count: whoever reads them knows from their content where they end.
///
/// An array stores its count and its capacity in front of them, 16 bytes that push a journal entry into the allocator's next
/// size. `@unchecked Sendable` since nothing is written after the initialiser.
struct PackedBytes: @unchecked Sendable {
    /// Fills the bytes in their order.
    @safe struct Writer {
        fileprivate var rest: UnsafeMutableRawBufferPointer

        mutating func append<Number: FixedWidthInteger>(_ number: Number) {
            unsafe withUnsafeBytes(of: number.littleEndian) { unsafe append($0) }
        }

        /// The length, whose first byte is never 0xFF, and then the text.
        mutating func append(_ text: String) {
            append(UInt32(text.utf8.count).byteSwapped)
            var text = text
            text.withUTF8 { unsafe append(UnsafeRawBufferPointer($0)) }
        }

        private mutating func append(_ bytes: UnsafeRawBufferPointer) {
            unsafe precondition(bytes.count <= rest.count, "more than was announced")
            unsafe rest.copyMemory(from: bytes)
            unsafe rest = UnsafeMutableRawBufferPointer(rebasing: rest[bytes.count...])
        }
    }

    private let storage: ManagedBuffer<Void, UInt8>

    /// `count` bytes, all of which `fill` has to write.
    init(count: Int, _ fill: (inout Writer) -> Void) {
        storage = ManagedBuffer.create(minimumCapacity: count) { _ in }
        unsafe storage.withUnsafeMutablePointerToElements { bytes in
            var writer = unsafe Writer(rest: UnsafeMutableRawBufferPointer(start: bytes, count: count))
            fill(&writer)
            unsafe precondition(writer.rest.isEmpty, "less than was announced")
        }
    }

    /// The number that begins at an offset.
    func number<Number: FixedWidthInteger>(at start: Int) -> Number {
        unsafe withFirst(start + Number.bitWidth / 8) {
            unsafe Number(littleEndian: $0.loadUnaligned(fromByteOffset: start, as: Number.self))
        }
    }

    /// The text whose length begins at an offset.
    func text(at start: Int) -> String {
        let end = textEnd(at: start)
        return unsafe withFirst(end) { unsafe String(decoding: $0[(start + 4)...], as: UTF8.self) }
    }

    /// Where the text ends whose length begins at an offset.
    func textEnd(at start: Int) -> Int {
        start + 4 + Int((number(at: start) as UInt32).byteSwapped)
    }

    /// The first `count` bytes; there must be that many.
    func withFirst<Result>(_ count: Int, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        unsafe storage.withUnsafeMutablePointerToElements {
            unsafe body(UnsafeRawBufferPointer(start: $0, count: count))
        }
    }
}
