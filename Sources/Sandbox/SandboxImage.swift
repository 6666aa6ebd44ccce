/// A PNG image of its own colour for each image of each task.
///
/// Written here, since the only use of an image library would be this; the pixels are stored, not compressed, so that no
/// compressor is needed. Source: PNG (ISO/IEC 15948) §5, §10, §11; RFC 1950; RFC 1951 §3.2.4.
enum SandboxImage {
    private static let width = 480
    private static let height = 160

    /// The image `number` of a task.
    static func png(taskID: String, number: Int) -> [UInt8] {
        var hash: UInt32 = 2_166_136_261
        for byte in "\(taskID)-\(number)".utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        let colour = [0, 8, 24].map { UInt8(truncatingIfNeeded: hash >> $0) / 2 }
        var pixels = [UInt8](repeating: 0, count: (width * 3 + 1) * height)
        for y in 0..<height {
            for x in 0..<width {
                for part in 0..<3 {
                    // A gradient, so that it looks like an image.
                    pixels[y * (width * 3 + 1) + 1 + x * 3 + part] = colour[part] + UInt8(x * 100 / width)
                }
            }
        }
        var file: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
        file += chunk("IHDR", bigEndian(UInt32(width)) + bigEndian(UInt32(height)) + [8, 2, 0, 0, 0])
        file += chunk("IDAT", stored(pixels))
        return file + chunk("IEND", [])
    }

    private static func bigEndian(_ number: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - $0 * 8)) }
    }

    private static func chunk(_ type: String, _ data: [UInt8]) -> [UInt8] {
        let body = Array(type.utf8) + data
        return bigEndian(UInt32(data.count)) + body + bigEndian(crc(body))
    }

    private static func crc(_ bytes: [UInt8]) -> UInt32 {
        var crc: UInt32 = 0xFFFF_FFFF
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
        }
        return ~crc
    }

    /// A zlib stream of stored blocks.
    private static func stored(_ bytes: [UInt8]) -> [UInt8] {
        var stream: [UInt8] = [0x78, 0x01]
        var start = 0
        while start < bytes.count {
            let end = min(start + 65_535, bytes.count)
            let length = UInt16(end - start)
            stream.append(end == bytes.count ? 1 : 0)
            for number in [length, ~length] { stream += [UInt8(number & 0xFF), UInt8(number >> 8)] }
            stream += bytes[start..<end]
            start = end
        }
        var (low, high): (UInt32, UInt32) = (1, 0)
        for byte in bytes {
            low = (low + UInt32(byte)) % 65_521
            high = (high + low) % 65_521
        }
        return stream + bigEndian(high << 16 | low)
    }
}
