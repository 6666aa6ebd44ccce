import CRabbitMQ

// From librabbitmq's structures, whose memory lasts until the next call, to values that last.

extension ByteString {
    init(copying source: amqp_bytes_t) {
        unsafe self.init([UInt8](copying: source))
    }
}

extension [UInt8] {
    init(copying source: amqp_bytes_t) {
        unsafe self.init(UnsafeRawBufferPointer(start: source.bytes, count: source.bytes == nil ? 0 : source.len))
    }
}

extension FieldTable {
    init(copying source: amqp_table_t) {
        guard let entries = unsafe source.entries else {
            self.init()
            return
        }
        unsafe self.init(
            entries: UnsafeBufferPointer(start: entries, count: Int(source.num_entries))
                .map {
                    unsafe Entry(name: ByteString(copying: $0.key), value: FieldValue(copying: $0.value))
                }
        )
    }
}

extension FieldValue {
    init(copying source: amqp_field_value_t) {
        switch unsafe amqp_field_value_kind_t(UInt32(source.kind)) {
        case AMQP_FIELD_KIND_BOOLEAN: self = unsafe .boolean(source.value.boolean != 0)
        case AMQP_FIELD_KIND_I8: self = unsafe .int8(source.value.i8)
        case AMQP_FIELD_KIND_U8: self = unsafe .uint8(source.value.u8)
        case AMQP_FIELD_KIND_I16: self = unsafe .int16(source.value.i16)
        case AMQP_FIELD_KIND_U16: self = unsafe .uint16(source.value.u16)
        case AMQP_FIELD_KIND_I32: self = unsafe .int32(source.value.i32)
        case AMQP_FIELD_KIND_U32: self = unsafe .uint32(source.value.u32)
        case AMQP_FIELD_KIND_I64: self = unsafe .int64(source.value.i64)
        case AMQP_FIELD_KIND_U64: self = unsafe .uint64(source.value.u64)
        case AMQP_FIELD_KIND_F32: self = unsafe .float(source.value.f32)
        case AMQP_FIELD_KIND_F64: self = unsafe .double(source.value.f64)
        case AMQP_FIELD_KIND_DECIMAL:
            self = unsafe .decimal(scale: source.value.decimal.decimals, value: source.value.decimal.value)
        case AMQP_FIELD_KIND_UTF8: self = unsafe .string(ByteString(copying: source.value.bytes))
        case AMQP_FIELD_KIND_BYTES: self = unsafe .bytes(ByteString(copying: source.value.bytes))
        case AMQP_FIELD_KIND_TIMESTAMP: self = unsafe .timestamp(source.value.u64)
        case AMQP_FIELD_KIND_TABLE: self = unsafe .table(FieldTable(copying: source.value.table))
        case AMQP_FIELD_KIND_ARRAY:
            let array = unsafe source.value.array
            guard let entries = unsafe array.entries else {
                self = .array([])
                return
            }
            self = unsafe .array(
                UnsafeBufferPointer(start: entries, count: Int(array.num_entries))
                    .map {
                        unsafe FieldValue(copying: $0)
                    }
            )
        // librabbitmq refuses a frame with a type that it does not know, so only `V` is left.
        default: self = .void
        }
    }
}

extension MessageProperties {
    init(copying source: amqp_basic_properties_t) {
        self.init()
        func has(_ flag: Int32) -> Bool { unsafe source._flags & UInt32(flag) != 0 }
        func text(_ value: amqp_bytes_t, _ flag: Int32) -> ByteString? {
            has(flag) ? unsafe ByteString(copying: value) : nil
        }
        unsafe contentType = text(source.content_type, AMQP_BASIC_CONTENT_TYPE_FLAG)
        unsafe contentEncoding = text(source.content_encoding, AMQP_BASIC_CONTENT_ENCODING_FLAG)
        unsafe correlationID = text(source.correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG)
        unsafe replyTo = text(source.reply_to, AMQP_BASIC_REPLY_TO_FLAG)
        unsafe expiration = text(source.expiration, AMQP_BASIC_EXPIRATION_FLAG)
        unsafe messageID = text(source.message_id, AMQP_BASIC_MESSAGE_ID_FLAG)
        unsafe type = text(source.type, AMQP_BASIC_TYPE_FLAG)
        unsafe userID = text(source.user_id, AMQP_BASIC_USER_ID_FLAG)
        unsafe appID = text(source.app_id, AMQP_BASIC_APP_ID_FLAG)
        unsafe clusterID = text(source.cluster_id, AMQP_BASIC_CLUSTER_ID_FLAG)
        headers = has(AMQP_BASIC_HEADERS_FLAG) ? unsafe FieldTable(copying: source.headers) : nil
        deliveryMode = has(AMQP_BASIC_DELIVERY_MODE_FLAG) ? unsafe source.delivery_mode : nil
        priority = has(AMQP_BASIC_PRIORITY_FLAG) ? unsafe source.priority : nil
        timestamp = has(AMQP_BASIC_TIMESTAMP_FLAG) ? unsafe source.timestamp : nil
    }
}
