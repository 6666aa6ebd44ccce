import ArgumentParser
import EditJob
import EditWorker
import Glibc
import JSON
import Journal
import Ledger
import Settings

/// `doctor`: whether a worker would work here, and what to do where it would not.
struct Doctor: BrokerCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check settings, broker, API and journal, and say what to do.",
        discussion: """
            Example: seedream-worker doctor --config worker.yaml

            Costs nothing at the API and changes nothing at the broker. The exit status is 1 if a worker would not work.
            """
    )

    @Option(help: "The form of the output.")
    var format = OutputFormat.text

    @OptionGroup
    var limits: CommandLimits

    @OptionGroup
    var flags: SettingFlags<AllSettings>

    func run() async throws {
        let terminal = Terminal(STDOUT_FILENO)
        var findings: [Finding] = []
        for await finding in found() {
            findings.append(finding)
            // As they come: a broker that does not answer takes its time.
            if format == .text { for line in finding.lines(terminal) { Output.result(line) } }
        }
        if format == .json {
            Output.result(String(decoding: JSONValue.array(findings.map(\.json)).encoded(), as: UTF8.self))
        }
        if findings.contains(where: { $0.status == .fault }) { throw ExitCode(ExitStatus.someFailed) }
    }

    private func found() -> AsyncStream<Finding> {
        let reader = flags.reader
        return AsyncStream { stream in
            let work = Task {
                await Self.examine(reader) { stream.yield($0) }
                stream.finish()
            }
            stream.onTermination = { _ in work.cancel() }
        }
    }

    private static func examine(_ reader: SettingsReader, _ tell: @Sendable (Finding) -> Void) async {
        let settings: WorkerSettings
        do {
            settings = try reader.read().settings
        } catch {
            for fault in error.all { tell(.fault("settings", "\(fault)", remedy: "see: seedream-worker settings")) }
            return
        }
        tell(.ok("settings", "all can be read; see: seedream-worker settings"))
        let (ofToken, token) = token(settings)
        tell(ofToken)
        let broker = BrokerExamination(settings)
        let way = await broker.reach(tell)
        let isTokenTaken = await APIExamination.examine(settings, token: token, tell)
        // Of a broker that cannot be reached nothing else is to be said: one cause is one fault.
        if let way {
            let fleet = settings.journalStore == .ledger ? await LedgerExamination.fleet(settings) : nil
            await broker.examine(way, fleet, tell)
            if let fleet {
                for finding in FleetExamination.findings(fleet, isTokenTaken: isTokenTaken) { tell(finding) }
            }
        }
        if way != nil || settings.journalStore != .ledger { await tell(journal(settings, brokerMajor: way?.major)) }
        tell(descriptors(settings))
    }

    private static func token(_ settings: WorkerSettings) -> (finding: Finding, token: String?) {
        switch settings.apiToken {
        case .value(let token):
            let finding = Finding.warning(
                "token",
                "is given as a value, and a new one needs a new start",
                remedy: "put it in a file and set SEEDREAM_API_TOKEN_FILE to its path"
            )
            return (finding, token)
        case .file(let path):
            do {
                let token = try TokenSource(path: path).token
                return (.ok("token", "is read from \(path)"), token)
            } catch {
                let remedy = "set SEEDREAM_API_TOKEN_FILE to a file with the token"
                return (.fault("token", "\(error)", remedy: remedy), nil)
            }
        case nil:
            let remedy = "set SEEDREAM_API_TOKEN_FILE to the path of a file with the token"
            return (.fault("token", "is missing", remedy: remedy), nil)
        }
    }

    private static func journal(_ settings: WorkerSettings, brokerMajor: Int?) async -> Finding {
        switch settings.journalStore {
        case .ledger:
            return await LedgerExamination.examine(settings, brokerMajor: brokerMajor)
        case .memory:
            return .ok("journal", "in memory: a worker that is killed forgets it; ledger and sqlite:PATH survive")
        case .sqlite(let path):
            // Looking must not make the file.
            guard unsafe access(path, F_OK) == 0 else {
                let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
                let directory = parts.isEmpty ? "." : parts == [""] ? "/" : parts.joined(separator: "/")
                return unsafe access(directory, W_OK | X_OK) == 0
                    ? .ok("journal", "\(path) is not there yet; the first worker makes it")
                    : .fault(
                        "journal",
                        "\(path) cannot be made: \(unsafe String(cString: strerror(errno)))",
                        remedy: "make \(directory) writable for the worker's user"
                    )
            }
            do {
                let journal = try SQLiteJournal(path: path)
                // As a worker writes: a full disk refuses that, and nothing less.
                let entry = "doctor \(UInt64.random(in: .min ... .max))"
                _ = try await journal.begin(JournalRequest(id: entry, digest: BodyDigest([])))
                try await journal.finish(entry, .released)
                await journal.close()
                return .ok("journal", "\(path) can be written")
            } catch {
                return .fault("journal", "\(error)", remedy: "set journal.store to a file that can be written")
            }
        }
    }

    /// Each submission in flight has a connection, beside a few for the broker and the journal.
    private static func descriptors(_ settings: WorkerSettings) -> Finding {
        var limit = rlimit()
        let needed = UInt64(settings.concurrency) + 64
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            return .warning("limits", "the limit of open files cannot be read")
        }
        return UInt64(limit.rlim_cur) >= needed
            ? .ok("limits", "\(limit.rlim_cur) open files, \(needed) are enough")
            : .fault(
                "limits",
                "\(limit.rlim_cur) open files, worker.concurrency needs \(needed)",
                remedy: "ulimit -n \(needed), LimitNOFILE= in the unit, or a lower worker.concurrency"
            )
    }
}
