/// One value of a field table, with its type on the wire.
///
/// The types are those that RabbitMQ reads and writes, which differ from the specification's letters.
/// Source: `amqp.h`, `amqp_field_value_kind_t`; RabbitMQ's "AMQP 0-9-1 Errata", §3.
package enum FieldValue: Hashable, Sendable {
    /// `t`
    case boolean(Bool)
    /// `b`
    case int8(Int8)
    /// `B`
    case uint8(UInt8)
    /// `s`
    case int16(Int16)
    /// `u`
    case uint16(UInt16)
    /// `I`
    case int32(Int32)
    /// `i`
    case uint32(UInt32)
    /// `l`
    case int64(Int64)
    /// `L`: librabbitmq knows it, RabbitMQ 3.10 closes the connection on it.
    case uint64(UInt64)
    /// `f`
    case float(Float)
    /// `d`
    case double(Double)
    /// `D`: `value` divided by ten to the power of `scale`.
    case decimal(scale: UInt8, value: UInt32)
    /// `S`: text by convention, bytes in fact.
    case string(ByteString)
    /// `x`
    case bytes(ByteString)
    /// `A`
    case array([FieldValue])
    /// `T`: seconds since 1970.
    case timestamp(UInt64)
    /// `F`
    case table(FieldTable)
    /// `V`
    case void

    package static func text(_ text: some StringProtocol) -> FieldValue { .string(ByteString(text)) }

    /// The text of a `string` or `bytes` value, nil of any other type.
    package var text: String? {
        switch self {
        case .string(let value), .bytes(let value): value.text
        default: nil
        }
    }

    /// The number of an integer value of any width, nil if it is none or does not fit.
    package var integer: Int64? {
        switch self {
        case .int8(let value): Int64(value)
        case .uint8(let value): Int64(value)
        case .int16(let value): Int64(value)
        case .uint16(let value): Int64(value)
        case .int32(let value): Int64(value)
        case .uint32(let value): Int64(value)
        case .int64(let value): value
        case .uint64(let value): Int64(exactly: value)
        default: nil
        }
    }

    /// Bytes on the wire, the type's letter included.
    package var encodedSize: Int {
        switch self {
        case .void: 1
        case .boolean, .int8, .uint8: 2
        case .int16, .uint16: 3
        case .int32, .uint32, .float: 5
        case .decimal: 6
        case .int64, .uint64, .double, .timestamp: 9
        case .string(let value), .bytes(let value): 5 + value.bytes.count
        case .array(let values): values.reduce(5) { $0 + $1.encodedSize }
        case .table(let table): 1 + table.encodedSize
        }
    }
}

/// Message headers, queue arguments or client properties: named values in the order of the wire.
package struct FieldTable: Hashable, Sendable {
    package struct Entry: Hashable, Sendable {
        /// The name, at most 255 bytes.
        package var name: ByteString
        package var value: FieldValue

        /// Bytes on the wire.
        package var encodedSize: Int { 1 + name.bytes.count + value.encodedSize }
    }

    /// The entries in the order of the wire; a name may stand twice, since brokers allow it.
    package var entries: [Entry]

    /// Takes the entries as they are.
    package init(entries: [Entry] = []) {
        self.entries = entries
    }

    /// The first value of that name.
    ///
    /// Setting replaces it, or appends; setting nil removes all of that name.
    package subscript(name: ByteString) -> FieldValue? {
        get { entries.first { $0.name == name }?.value }
        set {
            guard let newValue else {
                entries.removeAll { $0.name == name }
                return
            }
            if let index = entries.firstIndex(where: { $0.name == name }) {
                entries[index].value = newValue
            } else {
                entries.append(Entry(name: name, value: newValue))
            }
        }
    }

    /// Whether there is no entry.
    package var isEmpty: Bool { entries.isEmpty }

    /// Bytes on the wire, the length prefix included.
    package var encodedSize: Int { entries.reduce(4) { $0 + $1.encodedSize } }
}

extension FieldTable: ExpressibleByDictionaryLiteral {
    package init(dictionaryLiteral elements: (ByteString, FieldValue)...) {
        self.init(entries: elements.map { Entry(name: $0.0, value: $0.1) })
    }
}
