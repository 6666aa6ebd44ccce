import Glibc

/// Shows to the other workers of this host that this one lives: a lock on a file, which the kernel gives back whatever
/// way the process ends.
///
/// A clock or a process id would do less: after a kill -9 the lock is free at once, and no other process gets it by chance.
/// Source: `flock(2)`.
final class OwnerLock: Sendable {
    /// The name under which this worker's entries stand.
    let owner: String
    private let base: String
    private let descriptor: Int32

    /// Takes the lock for a journal at `base`, under a name of this process's own.
    init(base: String) throws(JournalFault) {
        let name = "\(getpid())-\(String(UInt32.random(in: .min ... .max), radix: 36))"
        self.base = base
        owner = name
        let path = Self.path(base, name)
        descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0, flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            throw JournalFault(
                description:
                    "cannot lock \(path): \(unsafe String(cString: strerror(errno))); check that this user may "
                    + "write into the journal's directory and that it is on a local disk"
            )
        }
    }

    deinit {
        _ = unsafe unlink(Self.path(base, owner))
        _ = close(descriptor)
    }

    /// Whether the worker of that name is still there.
    func isAlive(_ other: String) -> Bool {
        if other == owner { return true }
        let path = Self.path(base, other)
        let descriptor = unsafe open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else {
            // Gone means dead; anything else that keeps us from looking must not free another worker's entry.
            return errno != ENOENT
        }
        defer { close(descriptor) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { return true }
        _ = unsafe unlink(path)
        return false
    }

    private static func path(_ base: String, _ owner: String) -> String { "\(base)-worker-\(owner)" }
}
