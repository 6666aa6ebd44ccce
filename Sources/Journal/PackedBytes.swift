/// Bytes that never change and whose number only their reader knows.
///
/// An array has its count and its capacity before them, which is the allocator's next size for the entries of a journal.
struct PackedBytes: @unchecked Sendable {
    /// Fills the bytes in their order.
    @safe struct Writer {
        fileprivate var rest: UnsafeMutableRawBufferPointer

        mutating func append<Number: FixedWidthInteger>(_ number: Number) {
            unsafe withUnsafeBytes(of: number.littleEndian) { unsafe append($0) }
        }

        /// A text behind its length, whose first byte is never 0xFF.
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

    // Nobody writes after the initialiser: that makes it `Sendable`.
    private let storage: ManagedBuffer<Void, UInt8>

    /// So many bytes, all of which `fill` writes.
    init(count: Int, _ fill: (inout Writer) -> Void) {
        storage = ManagedBuffer.create(minimumCapacity: count) { _ in }
        unsafe storage.withUnsafeMutablePointerToElements { bytes in
            var writer = unsafe Writer(rest: UnsafeMutableRawBufferPointer(start: bytes, count: count))
            fill(&writer)
            unsafe precondition(writer.rest.isEmpty, "less than was announced")
        }
    }

    /// The number that begins at a place.
    func number<Number: FixedWidthInteger>(at start: Int) -> Number {
        unsafe withFirst(start + Number.bitWidth / 8) {
            unsafe Number(littleEndian: $0.loadUnaligned(fromByteOffset: start, as: Number.self))
        }
    }

    /// The text whose length begins at a place.
    func text(at start: Int) -> String {
        let end = textEnd(at: start)
        return unsafe withFirst(end) { unsafe String(decoding: $0[(start + 4)...], as: UTF8.self) }
    }

    /// Where the text ends whose length begins at a place.
    func textEnd(at start: Int) -> Int {
        start + 4 + Int((number(at: start) as UInt32).byteSwapped)
    }

    /// The first bytes; there must be so many.
    func withFirst<Result>(_ count: Int, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        unsafe storage.withUnsafeMutablePointerToElements {
            unsafe body(UnsafeRawBufferPointer(start: $0, count: count))
        }
    }
}
