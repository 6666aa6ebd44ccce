import CSQLite

/// An SQLite file, opened for one thread at a time.
///
/// Our own bridge, 170 lines, because GRDB needs all of Foundation, whose tables of the world's languages would add 40 MB to
/// the program. Not `Sendable`: an actor owns it. Every statement is compiled once. Source: SQLite's "C-language Interface
/// Specification", "Result and Error Codes".
@safe final class SQLiteDatabase {
    /// What SQLite says of a failure.
    struct Failure: Error, CustomStringConvertible {
        /// The primary result code, such as `SQLITE_BUSY`.
        let code: Int32
        let description: String
    }

    /// A value in a statement or a row.
    enum Value {
        case null
        case integer(Int64)
        case text(String)
        case blob([UInt8])
    }

    /// A row while it is there.
    @safe struct Row {
        fileprivate let statement: OpaquePointer

        /// The integer in a column; 0 if there is none.
        func integer(_ column: Int32) -> Int64 { unsafe sqlite3_column_int64(statement, column) }

        /// The text in a column, empty if there is none.
        func text(_ column: Int32) -> String { String(decoding: bytes(column), as: UTF8.self) }

        /// The bytes of a text or blob.
        func bytes(_ column: Int32) -> [UInt8] {
            let start = unsafe sqlite3_column_blob(statement, column)
            let count = Int(unsafe sqlite3_column_bytes(statement, column))
            return unsafe Array(UnsafeRawBufferPointer(start: start, count: count))
        }
    }

    private let connection: OpaquePointer
    private var statements: [String: OpaquePointer] = unsafe [:]

    /// Opens the file or makes it; waits up to ten seconds while it is locked.
    init(path: String) throws(Failure) {
        var connection: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX
        let code = unsafe sqlite3_open_v2(path, &connection, flags, nil)
        guard code == SQLITE_OK, let opened = unsafe connection else {
            defer { _ = unsafe sqlite3_close_v2(connection) }
            throw unsafe Self.failure(code, connection)
        }
        unsafe self.connection = opened
        unsafe sqlite3_busy_timeout(opened, 10_000)
    }

    deinit {
        let compiled = unsafe Array(statements.values)
        for index in unsafe compiled.indices { _ = unsafe sqlite3_finalize(compiled[index]) }
        _ = unsafe sqlite3_close_v2(connection)
    }

    /// Rows that the last statement changed.
    var changes: Int { Int(unsafe sqlite3_changes(connection)) }

    /// Runs one or more statements without values.
    func execute(_ sql: String) throws(Failure) {
        let code = unsafe sqlite3_exec(connection, sql, nil, nil, nil)
        guard code == SQLITE_OK else { throw unsafe Self.failure(code, connection) }
    }

    /// Runs one statement, and gives what `read` makes of each row.
    @discardableResult
    func run<Result>(
        _ sql: String,
        _ values: [Value],
        _ read: (Row) -> Result
    ) throws(Failure) -> [Result] {
        let statement = try unsafe compiled(sql)
        defer {
            _ = unsafe sqlite3_reset(statement)
            _ = unsafe sqlite3_clear_bindings(statement)
        }
        for (index, value) in values.enumerated() {
            let code = unsafe Self.bind(value, to: statement, at: Int32(index + 1))
            guard code == SQLITE_OK else { throw unsafe Self.failure(code, connection) }
        }
        var results: [Result] = []
        while true {
            switch unsafe sqlite3_step(statement) {
            case SQLITE_ROW: unsafe results.append(read(Row(statement: statement)))
            case SQLITE_DONE: return results
            case let code: throw unsafe Self.failure(code, connection)
            }
        }
    }

    /// Runs one statement that gives no rows.
    func run(_ sql: String, _ values: [Value]) throws(Failure) {
        try run(sql, values) { _ in }
    }

    /// Does all in one transaction, or nothing.
    func transaction<Result>(_ body: () throws -> Result) throws -> Result {
        // At once: a lock that is taken only at the first write may come too late for what was read before.
        try execute("BEGIN IMMEDIATE")
        do {
            let result = try body()
            try execute("COMMIT")
            return result
        } catch {
            // Some failures have ended the transaction already.
            try? execute("ROLLBACK")
            throw error
        }
    }

    private func compiled(_ sql: String) throws(Failure) -> OpaquePointer {
        if let statement = unsafe statements[sql] { return unsafe statement }
        var statement: OpaquePointer?
        let code = unsafe sqlite3_prepare_v3(connection, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil)
        guard code == SQLITE_OK, let compiled = unsafe statement else { throw unsafe Self.failure(code, connection) }
        unsafe statements[sql] = compiled
        return unsafe compiled
    }

    private static func bind(_ value: Value, to statement: OpaquePointer, at index: Int32) -> Int32 {
        switch value {
        case .null: return unsafe sqlite3_bind_null(statement, index)
        case .integer(let value): return unsafe sqlite3_bind_int64(statement, index, value)
        case .text(let value):
            let text = value.utf8CString
            return unsafe text.withUnsafeBufferPointer { characters in
                unsafe seedream_sqlite3_bind_text(
                    statement,
                    index,
                    characters.baseAddress,
                    Int32(clamping: characters.count - 1)
                )
            }
        case .blob(let value):
            return unsafe value.withUnsafeBytes { bytes in
                unsafe seedream_sqlite3_bind_blob(statement, index, bytes.baseAddress, Int32(clamping: bytes.count))
            }
        }
    }

    private static func failure(_ code: Int32, _ connection: OpaquePointer?) -> Failure {
        let words = unsafe connection.flatMap { unsafe sqlite3_errmsg($0) } ?? sqlite3_errstr(code)
        return unsafe Failure(
            code: code & 0xFF,
            description: words.map { unsafe String(cString: $0) } ?? "code \(code)"
        )
    }
}

extension SQLiteDatabase.Failure {
    /// What is wrong, as far as an operator can do something about it.
    enum Kind {
        case damaged, notAllowed, full, inUse, other
    }

    /// The kind of the code.
    var kind: Kind {
        switch code {
        case SQLITE_CORRUPT, SQLITE_NOTADB: .damaged
        case SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_PERM: .notAllowed
        case SQLITE_FULL, SQLITE_IOERR: .full
        case SQLITE_BUSY, SQLITE_LOCKED: .inUse
        default: .other
        }
    }
}
