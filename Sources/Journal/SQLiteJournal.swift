package import EditJob
import SharedValues
import ThreadExecutor

/// A journal in an SQLite file, which the workers of one host share and which outlives them.
///
/// The entries of concurrent jobs are committed together, so that they share one disk sync. It waits for the disk on a
/// thread of its own.
/// Source: SQLite's "Write-Ahead Logging" and "PRAGMA synchronous".
package actor SQLiteJournal: SubmissionJournal {
    private enum Operation {
        case begin(JournalRequest, CheckedContinuation<Result<PriorSubmission, JournalFault>, Never>)
        case finish(String, JobEnd, CheckedContinuation<Result<PriorSubmission, JournalFault>, Never>)
        case acknowledged(String, CheckedContinuation<Result<PriorSubmission, JournalFault>, Never>)

        var continuation: CheckedContinuation<Result<PriorSubmission, JournalFault>, Never> {
            switch self {
            case .begin(_, let continuation), .finish(_, _, let continuation), .acknowledged(_, let continuation):
                continuation
            }
        }
    }

    private let path: String
    private nonisolated let thread: SocketThread
    private var database: SQLiteDatabase?
    /// Kept once taken, whatever happens to the file: the entries of this process stand under its name.
    private var lock: OwnerLock?
    private var pending: [Operation] = []
    private var isCommitting = false

    /// A journal in the file at `path`, which is opened or made with the first use, and opened again after a fault: a
    /// worker outlives a disk that was full or not mounted yet.
    ///
    /// Throws where the system has no thread left.
    package init(path: String) throws {
        self.path = path
        thread = try SocketThread(name: "journal")
    }

    package nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe thread.asUnownedSerialExecutor() }

    /// The file and our lock, opened where they are not.
    private func opened() throws -> (SQLiteDatabase, OwnerLock) {
        let lock = try self.lock ?? OwnerLock(base: path)
        self.lock = lock
        if let database { return (database, lock) }
        let database = try SQLiteDatabase(path: path)
        try database.execute("PRAGMA journal_mode = WAL")
        // An entry that a power cut could take back is none.
        try database.execute("PRAGMA synchronous = FULL")
        try database.transaction { try database.execute(Self.schema) }
        self.database = database
        return (database, lock)
    }

    /// Puts a failure into words; a file that may have been replaced is opened anew with the next use.
    private func failed(_ error: any Error) -> JournalFault {
        switch (error as? SQLiteDatabase.Failure)?.kind {
        case .inUse, .full: break
        default: database = nil
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

    package func begin(_ request: JournalRequest) async throws(JournalFault) -> PriorSubmission {
        try await withCheckedContinuation { enqueue(.begin(request, $0)) }.get()
    }

    package func finish(_ id: String, _ end: JobEnd) async throws(JournalFault) {
        _ = try await withCheckedContinuation { enqueue(.finish(id, end, $0)) }.get()
    }

    package func acknowledged(_ id: String) async throws(JournalFault) {
        _ = try await withCheckedContinuation { enqueue(.acknowledged(id, $0)) }.get()
    }

    package func sweep(before moment: Int64) async throws(JournalFault) {
        do {
            // In pieces, so that no submission waits long for its turn.
            while try sweepPiece(before: moment) > 0 { await Task.yield() }
            try sweepAbandoned(before: moment)
        } catch {
            throw failed(error)
        }
    }

    private func sweepPiece(before moment: Int64) throws -> Int {
        let (database, _) = try opened()
        return try database.transaction {
            try database.run(
                """
                DELETE FROM submission WHERE id IN
                (SELECT id FROM submission WHERE changed_at < ? AND state != 0 LIMIT 500)
                """,
                [.integer(moment)]
            )
            return database.changes
        }
    }

    /// What a worker began that is gone now is in doubt only for the retention.
    private func sweepAbandoned(before moment: Int64) throws {
        let (database, lock) = try opened()
        try database.transaction {
            let owners = try database.run(
                "SELECT DISTINCT detail FROM submission WHERE state = 0 AND changed_at < ?",
                [.integer(moment)]
            ) { $0.text(0) }
            for owner in owners where !lock.isAlive(owner) {
                try database.run(
                    "DELETE FROM submission WHERE state = 0 AND changed_at < ? AND detail = ?",
                    [.integer(moment), .text(owner)]
                )
            }
        }
    }

    package func close() async {
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
                let answers = try database.transaction {
                    try batch.map { try Self.perform($0, in: database, lock) }
                }
                for (operation, answer) in zip(batch, answers) {
                    operation.continuation.resume(returning: .success(answer))
                }
            } catch {
                let fault = failed(error)
                for operation in batch { operation.continuation.resume(returning: .failure(fault)) }
            }
            // Who has come meanwhile waits for this thread: together they are the next batch.
            await Task.yield()
        }
        isCommitting = false
    }

    private static func perform(
        _ operation: Operation,
        in database: SQLiteDatabase,
        _ lock: OwnerLock
    ) throws -> PriorSubmission {
        let now = Timestamp.now.milliseconds
        switch operation {
        case .begin(let request, _):
            let (prior, write) = JournalEntry.prior(
                to: request,
                given: try entry(request.id, in: database),
                by: lock.owner,
                now: now,
                isAlive: lock.isAlive
            )
            if let write { try store(write, as: request.id, in: database) }
            return prior
        case .finish(let id, let end, _):
            if let entry = try entry(id, in: database)?.after(end, now: now) {
                try store(entry, as: id, in: database)
            } else {
                try database.run("DELETE FROM submission WHERE id = ?", [.text(id)])
            }
            return .never
        case .acknowledged(let id, _):
            if let entry = try entry(id, in: database)?.afterAcknowledgement(now: now) {
                try store(entry, as: id, in: database)
            }
            return .never
        }
    }

    private static func entry(_ id: String, in database: SQLiteDatabase) throws -> JournalEntry? {
        try database.run(
            "SELECT digest, state, detail, attempts, replay, may_be_duplicate, changed_at FROM submission WHERE id = ?",
            [.text(id)]
        ) { row in
            JournalEntry(
                digest: BodyDigest(stored: row.bytes(0)),
                state: .init(stored: row.integer(1), detail: row.text(2)),
                // A file may hold any number.
                attempts: Int(Int32(clamping: row.integer(3))),
                replay: row.integer(4),
                mayBeDuplicate: row.integer(5) != 0,
                changedAt: row.integer(6)
            )
        }
        .first
    }

    private static func store(_ entry: JournalEntry, as id: String, in database: SQLiteDatabase) throws {
        let (state, detail) = entry.state.stored
        try database.run(
            """
            INSERT OR REPLACE INTO submission
            (id, digest, state, detail, attempts, replay, may_be_duplicate, changed_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                .text(id), .blob(entry.digest.stored), .integer(state), detail.map { .text($0) } ?? .null,
                .integer(Int64(entry.attempts)), .integer(entry.replay), .integer(entry.mayBeDuplicate ? 1 : 0),
                .integer(entry.changedAt),
            ]
        )
    }

    /// Where SQLite's codes point.
    ///
    /// Source: SQLite's "Result and Error Codes".
    private static func fault(_ error: any Error, _ path: String) -> JournalFault {
        if let fault = error as? JournalFault { return fault }
        guard let error = error as? SQLiteDatabase.Failure else {
            return JournalFault(description: "the journal \(path) cannot be used: \(error)")
        }
        let remedy =
            switch error.kind {
            case .damaged:
                "the file is damaged or no SQLite file: move it away, and replay nothing that it may have known"
            case .notAllowed: "check that the directory exists and that this user may write the file and its directory"
            case .full: "make room on the disk, and check its health"
            case .inUse: "another process holds the file; stop it, or move the journal to a local disk"
            case .other: "check the file and its disk"
            }
        return JournalFault(description: "the journal \(path) cannot be used: \(error); \(remedy)")
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
