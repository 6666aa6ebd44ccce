import EditWorker
import Glibc
import SharedValues
import SystemPackage

/// The exit statuses of the program.
///
/// Source: `sysexits.h`.
enum ExitStatus {
    static let someFailed: Int32 = 1
    static let usage: Int32 = 64
    static let unavailable: Int32 = 69
    static let internalFault: Int32 = 70
    static let outputFault: Int32 = 74
    static let drainDeadline: Int32 = 75
    static let refused: Int32 = 77
    static let settings: Int32 = 78
    /// 128 and the number of SIGINT, as shells have it.
    static let interrupted: Int32 = 130
}

/// What the program says: results on stdout, all else on stderr.
enum Output {
    /// Whether stderr is a terminal, on which progress makes sense.
    static var isInteractive: Bool { isatty(STDERR_FILENO) == 1 }

    /// Whether the results go through a pipe, perhaps to the terminal that the progress is on.
    static var isPipe: Bool {
        var status = stat()
        return unsafe fstat(STDOUT_FILENO, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
    }

    /// A line of results; false if its reader has gone away.
    @discardableResult
    static func result(_ line: String) -> Bool { write(line + "\n", to: STDOUT_FILENO) }

    /// A line of news or errors.
    static func error(_ line: String) {
        write(line + "\n", to: STDERR_FILENO)
    }

    /// A question: the answer is typed on its line.
    static func ask(_ question: String) {
        write(question, to: STDERR_FILENO)
    }

    /// Replaces the last line of progress; nothing off a terminal.
    static func progress(_ line: String) {
        guard isInteractive else { return }
        write("\r\u{1B}[K\(line)", to: STDERR_FILENO)
    }

    @discardableResult
    private static func write(_ text: String, to descriptor: Int32) -> Bool {
        do throws(Errno) {
            try FileDescriptor(rawValue: descriptor).writeWaiting(Array(text.utf8))
            return true
        } catch {
            // A reader that went away (`| head`) has seen what it wanted, and what is said beside the results is not worth the
            // end of the command.
            guard error != .brokenPipe, descriptor == STDOUT_FILENO else { return false }
            // What is not complete must not be taken for it: an export on a full disk, say.
            Self.error("seedream-worker: cannot write the output: \(error)")
            _exit(ExitStatus.outputFault)
        }
    }
}

/// This process, as the system knows it.
enum Process {
    /// Who is at the keyboard, for the others: `USER@HOST`.
    static var person: String {
        let user = environment["USER"] ?? environment["LOGNAME"] ?? "somebody"
        return "\(user)@\(WorkerIdentity.hostName)"
    }

    /// The environment's variables; of two with the same name the first counts, as `getenv` has it.
    static var environment: [String: String] {
        var variables: [String: String] = [:]
        var pointer = unsafe environ
        while let entry = unsafe pointer.pointee {
            let text = unsafe String(cString: entry)
            if let equals = text.firstIndex(of: "="), variables[String(text[..<equals])] == nil {
                variables[String(text[..<equals])] = String(text[text.index(after: equals)...])
            }
            unsafe pointer += 1
        }
        return variables
    }
}
