import CRabbitMQ

/// Memory for the C structures of one call, taken back all at once: no allocation a value, no pointer that outlives it.
///
/// Source: `amqp.h`, `amqp_pool_t`.
@safe final class WireArena {
    private let pool: UnsafeMutablePointer<amqp_pool_t>

    init() {
        unsafe pool = .allocate(capacity: 1)
        unsafe init_amqp_pool(pool, 4096)
    }

    deinit {
        unsafe empty_amqp_pool(pool)
        unsafe pool.deallocate()
    }

    /// Invalidates everything made so far.
    func recycle() {
        unsafe recycle_amqp_pool(pool)
    }

    /// Copies bytes; also an empty string has an address, since librabbitmq takes a null one for an absent value.
    func bytes(_ source: [UInt8]) -> amqp_bytes_t {
        guard let copy = unsafe amqp_pool_alloc(pool, max(source.count, 1)) else {
            return unsafe amqp_empty_bytes
        }
        unsafe source.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            unsafe copy.copyMemory(from: base, byteCount: buffer.count)
        }
        return unsafe amqp_bytes_t(len: source.count, bytes: copy)
    }

    func bytes(_ source: ByteString) -> amqp_bytes_t {
        unsafe bytes(source.bytes)
    }

    func table(_ source: FieldTable) -> amqp_table_t {
        let entries = unsafe allocate(amqp_table_entry_t.self, count: source.entries.count)
        for (index, entry) in source.entries.enumerated() {
            unsafe entries?[index] = amqp_table_entry_t(key: bytes(entry.name), value: value(entry.value))
        }
        return unsafe amqp_table_t(num_entries: Int32(source.entries.count), entries: entries)
    }

    private func array(_ source: [FieldValue]) -> amqp_array_t {
        let entries = unsafe allocate(amqp_field_value_t.self, count: source.count)
        for (index, element) in source.enumerated() {
            unsafe entries?[index] = value(element)
        }
        return unsafe amqp_array_t(num_entries: Int32(source.count), entries: entries)
    }

    private func allocate<Value>(_: Value.Type, count: Int) -> UnsafeMutablePointer<Value>? {
        guard count > 0, let memory = unsafe amqp_pool_alloc(pool, count * MemoryLayout<Value>.stride) else {
            return nil
        }
        return unsafe memory.bindMemory(to: Value.self, capacity: count)
    }

    private func value(_ source: FieldValue) -> amqp_field_value_t {
        var field = unsafe amqp_field_value_t()
        func set(_ kind: amqp_field_value_kind_t) { unsafe field.kind = UInt8(kind.rawValue) }
        switch source {
        case .boolean(let value):
            set(AMQP_FIELD_KIND_BOOLEAN)
            unsafe field.value.boolean = value ? 1 : 0
        case .int8(let value):
            set(AMQP_FIELD_KIND_I8)
            unsafe field.value.i8 = value
        case .uint8(let value):
            set(AMQP_FIELD_KIND_U8)
            unsafe field.value.u8 = value
        case .int16(let value):
            set(AMQP_FIELD_KIND_I16)
            unsafe field.value.i16 = value
        case .uint16(let value):
            set(AMQP_FIELD_KIND_U16)
            unsafe field.value.u16 = value
        case .int32(let value):
            set(AMQP_FIELD_KIND_I32)
            unsafe field.value.i32 = value
        case .uint32(let value):
            set(AMQP_FIELD_KIND_U32)
            unsafe field.value.u32 = value
        case .int64(let value):
            set(AMQP_FIELD_KIND_I64)
            unsafe field.value.i64 = value
        case .uint64(let value):
            set(AMQP_FIELD_KIND_U64)
            unsafe field.value.u64 = value
        case .float(let value):
            set(AMQP_FIELD_KIND_F32)
            unsafe field.value.f32 = value
        case .double(let value):
            set(AMQP_FIELD_KIND_F64)
            unsafe field.value.f64 = value
        case .decimal(let scale, let value):
            set(AMQP_FIELD_KIND_DECIMAL)
            unsafe field.value.decimal = amqp_decimal_t(decimals: scale, value: value)
        case .string(let value):
            set(AMQP_FIELD_KIND_UTF8)
            unsafe field.value.bytes = bytes(value)
        case .bytes(let value):
            set(AMQP_FIELD_KIND_BYTES)
            unsafe field.value.bytes = bytes(value)
        case .array(let values):
            set(AMQP_FIELD_KIND_ARRAY)
            unsafe field.value.array = array(values)
        case .timestamp(let value):
            set(AMQP_FIELD_KIND_TIMESTAMP)
            unsafe field.value.u64 = value
        case .table(let value):
            set(AMQP_FIELD_KIND_TABLE)
            unsafe field.value.table = table(value)
        case .void:
            set(AMQP_FIELD_KIND_VOID)
        }
        return unsafe field
    }

    func properties(_ source: MessageProperties) -> amqp_basic_properties_t {
        var properties = unsafe amqp_basic_properties_t()
        func set(_ value: ByteString?, _ path: WritableKeyPath<amqp_basic_properties_t, amqp_bytes_t>, _ flag: Int32) {
            guard let value else { return }
            unsafe properties[keyPath: path] = bytes(value)
            unsafe properties._flags |= UInt32(flag)
        }
        unsafe set(source.contentType, \.content_type, AMQP_BASIC_CONTENT_TYPE_FLAG)
        unsafe set(source.contentEncoding, \.content_encoding, AMQP_BASIC_CONTENT_ENCODING_FLAG)
        unsafe set(source.correlationID, \.correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG)
        unsafe set(source.replyTo, \.reply_to, AMQP_BASIC_REPLY_TO_FLAG)
        unsafe set(source.expiration, \.expiration, AMQP_BASIC_EXPIRATION_FLAG)
        unsafe set(source.messageID, \.message_id, AMQP_BASIC_MESSAGE_ID_FLAG)
        unsafe set(source.type, \.type, AMQP_BASIC_TYPE_FLAG)
        unsafe set(source.userID, \.user_id, AMQP_BASIC_USER_ID_FLAG)
        unsafe set(source.appID, \.app_id, AMQP_BASIC_APP_ID_FLAG)
        unsafe set(source.clusterID, \.cluster_id, AMQP_BASIC_CLUSTER_ID_FLAG)
        if let headers = source.headers {
            unsafe properties.headers = table(headers)
            unsafe properties._flags |= UInt32(AMQP_BASIC_HEADERS_FLAG)
        }
        if let deliveryMode = source.deliveryMode {
            unsafe properties.delivery_mode = deliveryMode
            unsafe properties._flags |= UInt32(AMQP_BASIC_DELIVERY_MODE_FLAG)
        }
        if let priority = source.priority {
            unsafe properties.priority = priority
            unsafe properties._flags |= UInt32(AMQP_BASIC_PRIORITY_FLAG)
        }
        if let timestamp = source.timestamp {
            unsafe properties.timestamp = timestamp
            unsafe properties._flags |= UInt32(AMQP_BASIC_TIMESTAMP_FLAG)
        }
        return unsafe properties
    }
}
