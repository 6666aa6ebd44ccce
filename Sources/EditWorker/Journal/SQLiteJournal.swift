import EditJob
import Foundation
import GRDB
import JSON

/// A journal in an SQLite file, which the workers of one host share and which outlives them.
///
/// The entries of concurrent jobs are committed together, so that they share one disk sync.
/// Source: SQLite's "Write-Ahead Logging" and "PRAGMA synchronous".
package actor SQLiteJournal: SubmissionJournal {
    private enum Operation {
        case begin(JournalRequest, CheckedContinuation<Result<JournalAnswer, JournalFault>, Never>)
        case finish(String, JournalVerdict, CheckedContinuation<Result<JournalAnswer, JournalFault>, Never>)

        var continuation: CheckedContinuation<Result<JournalAnswer, JournalFault>, Never> {
            switch self {
            case .begin(_, let continuation), .finish(_, _, let continuation): continuation
            }
        }
    }

    private let path: String
    private var database: DatabaseQueue?
    /// Kept once taken, whatever happens to the file: the entries of this process stand under its name.
    private var lock: OwnerLock?
    private var pending: [Operation] = []
    private var isCommitting = false

    /// Transactions so far: how many syncs the entries have cost.
    package private(set) var commits = 0

    /// A journal in the file at `path`, which is opened or made with the first use, and opened again after a fault: a
    /// worker outlives a disk that was full or not mounted yet.
    package init(path: String) {
        self.path = path
    }

    /// The file and our lock, opened where they are not.
    private func opened() throws -> (DatabaseQueue, OwnerLock) {
        let lock = try self.lock ?? OwnerLock(base: path)
        self.lock = lock
        if let database { return (database, lock) }
        var configuration = Configuration()
        configuration.busyMode = .timeout(10)
        configuration.prepareDatabase { database in
            try database.execute(sql: "PRAGMA journal_mode = WAL")
            // An entry that a power cut could take back is none.
            try database.execute(sql: "PRAGMA synchronous = FULL")
        }
        let database = try DatabaseQueue(path: path, configuration: configuration)
        try database.write { database in
            try database.execute(sql: Self.schema)
        }
        self.database = database
        return (database, lock)
    }

    /// Puts a failure into words; a file that may have been replaced is opened anew with the next use.
    private func failed(_ error: any Error) -> JournalFault {
        switch (error as? DatabaseError)?.resultCode {
        case .SQLITE_BUSY, .SQLITE_LOCKED, .SQLITE_FULL: break
        default:
            try? database?.close()
            database = nil
        }
        return Self.fault(error, path)
    }

    private static let schema = """
        CREATE TABLE IF NOT EXISTS submission (
            id TEXT PRIMARY KEY NOT NULL, digest BLOB NOT NULL, state INTEGER NOT NULL, detail TEXT,
            attempts INTEGER NOT NULL, replay INTEGER NOT NULL, may_be_duplicate INTEGER NOT NULL,
            changed_at INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS submission_changed_at ON submission (changed_at);
        """

    package func begin(_ request: JournalRequest) async throws(JournalFault) -> JournalAnswer {
        try await withCheckedContinuation { enqueue(.begin(request, $0)) }.get()
    }

    package func finish(_ id: String, _ verdict: JournalVerdict) async throws(JournalFault) {
        _ = try await withCheckedContinuation { enqueue(.finish(id, verdict, $0)) }.get()
    }

    package func sweep(before moment: Int64) async throws(JournalFault) {
        do {
            // In pieces, so that no submission waits long for its turn.
            while try await sweepPiece(before: moment) > 0 {}
            try await sweepAbandoned(before: moment)
        } catch {
            throw failed(error)
        }
    }

    private func sweepPiece(before moment: Int64) async throws -> Int {
        try await opened().0
            .write { database in
                try database.execute(
                    sql: """
                        DELETE FROM submission WHERE id IN
                        (SELECT id FROM submission WHERE changed_at < ? AND state != 0 LIMIT 500)
                        """,
                    arguments: [moment]
                )
                return database.changesCount
            }
    }

    /// What a worker began that is gone now is in doubt only for the retention.
    private func sweepAbandoned(before moment: Int64) async throws {
        let (database, lock) = try opened()
        try await database.write { database in
            let owners = try String.fetchAll(
                database,
                sql: "SELECT DISTINCT detail FROM submission WHERE state = 0 AND changed_at < ?",
                arguments: [moment]
            )
            for owner in owners where !lock.isAlive(owner) {
                try database.execute(
                    sql: "DELETE FROM submission WHERE state = 0 AND changed_at < ? AND detail = ?",
                    arguments: [moment, owner]
                )
            }
        }
    }

    package func close() async {
        try? database?.close()
        database = nil
    }

    private func enqueue(_ operation: Operation) {
        pending.append(operation)
        guard !isCommitting else { return }
        isCommitting = true
        Task { await commitAll() }
    }

    /// Commits what has come together, again and again until nothing is left.
    private func commitAll() async {
        while !pending.isEmpty {
            let batch = pending
            pending = []
            do {
                let (database, lock) = try opened()
                let answers = try await database.write { database in
                    try batch.map { try Self.perform($0, in: database, lock) }
                }
                for (operation, answer) in zip(batch, answers) {
                    operation.continuation.resume(returning: .success(answer))
                }
            } catch {
                let fault = failed(error)
                for operation in batch { operation.continuation.resume(returning: .failure(fault)) }
            }
            commits += 1
        }
        isCommitting = false
    }

    private static func perform(
        _ operation: Operation,
        in database: Database,
        _ lock: OwnerLock
    ) throws -> JournalAnswer {
        let now = Timestamp.now.milliseconds
        switch operation {
        case .begin(let request, _):
            let (answer, write) = JournalEntry.answer(
                to: request,
                given: try entry(request.id, in: database),
                by: lock.owner,
                now: now,
                isAlive: lock.isAlive
            )
            if let write { try store(write, as: request.id, in: database) }
            return answer
        case .finish(let id, let verdict, _):
            if let entry = try entry(id, in: database)?.after(verdict, now: now) {
                try store(entry, as: id, in: database)
            } else {
                try database.cachedStatement(sql: "DELETE FROM submission WHERE id = ?").execute(arguments: [id])
            }
            return .begun(mayBeDuplicate: false)
        }
    }

    private static func entry(_ id: String, in database: Database) throws -> JournalEntry? {
        let statement = try database.cachedStatement(
            sql:
                "SELECT digest, state, detail, attempts, replay, may_be_duplicate, changed_at FROM submission WHERE id = ?"
        )
        guard let row = try Row.fetchOne(statement, arguments: [id]) else { return nil }
        let detail: String = row[2] ?? ""
        let state: JournalEntry.State =
            switch row[1] as Int {
            case 0: .begun(owner: detail)
            case 1: .accepted(taskID: detail)
            case 2: .failed(JobFailure(stored: detail))
            default: .retrying
            }
        return JournalEntry(
            digest: BodyDigest(stored: Array(row[0] as Data)),
            state: state,
            attempts: row[3],
            replay: row[4],
            mayBeDuplicate: row[5],
            changedAt: row[6]
        )
    }

    private static func store(_ entry: JournalEntry, as id: String, in database: Database) throws {
        let (state, detail): (Int, String?) =
            switch entry.state {
            case .begun(let owner): (0, owner)
            case .accepted(let taskID): (1, taskID)
            case .failed(let failure): (2, failure.stored)
            case .retrying: (3, nil)
            }
        let statement = try database.cachedStatement(
            sql: """
                INSERT OR REPLACE INTO submission
                (id, digest, state, detail, attempts, replay, may_be_duplicate, changed_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """
        )
        try statement.execute(
            arguments: [
                id, Data(entry.digest.stored), state, detail, entry.attempts, entry.replay, entry.mayBeDuplicate,
                entry.changedAt,
            ]
        )
    }

    /// Where SQLite's codes point.
    ///
    /// Source: SQLite's "Result and Error Codes".
    private static func fault(_ error: any Error, _ path: String) -> JournalFault {
        if let fault = error as? JournalFault { return fault }
        guard let error = error as? DatabaseError else {
            return JournalFault(description: "the journal \(path) cannot be used: \(error)")
        }
        let remedy =
            switch error.resultCode {
            case .SQLITE_CORRUPT, .SQLITE_NOTADB:
                "the file is damaged or no SQLite file: move it away, and replay nothing that it may have known"
            case .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_PERM:
                "check that the directory exists and that this user may write the file and its directory"
            case .SQLITE_FULL, .SQLITE_IOERR: "make room on the disk, and check its health"
            case .SQLITE_BUSY, .SQLITE_LOCKED:
                "another process holds the file; stop it, or move the journal to a local disk"
            default: "check the file and its disk"
            }
        return JournalFault(
            description: "the journal \(path) cannot be used: \(error.message ?? "unknown fault"); \(remedy)"
        )
    }
}

extension BodyDigest {
    fileprivate var stored: [UInt8] {
        (0..<16).map { UInt8(truncatingIfNeeded: value >> (UInt128($0) * 8)) }
    }

    fileprivate init(stored: [UInt8]) {
        self.init(value: stored.enumerated().reduce(0) { $0 | UInt128($1.element) << (UInt128($1.offset) * 8) })
    }
}

extension JobFailure {
    /// What a failure says again to a delivery that comes again; the API's refusals have no violations.
    fileprivate var stored: String {
        let json = JSONValue.object([
            JSONMember("code", .string(code.rawValue)), JSONMember("message", .string(message)),
            JSONMember("charged", .string(charged.rawValue)),
            JSONMember("http_status", httpStatus.map { .integer(Int64($0)) } ?? .null),
        ])
        return String(decoding: json.encoded(), as: UTF8.self)
    }

    /// Reads what `stored` wrote; anything else is taken for the worse.
    fileprivate init(stored: String) {
        let json = try? JSONValue(parsing: stored.utf8)
        self.init(
            json?["code"]?.text.flatMap { Code(rawValue: $0) } ?? .outcomeUnknown,
            json?["message"]?.text ?? "The journal's entry cannot be read.",
            charged: json?["charged"]?.text == Charge.no.rawValue ? .no : .maybe,
            httpStatus: json?["http_status"]?.exactInteger.map { Int($0) }
        )
    }
}
