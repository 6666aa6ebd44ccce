import ArgumentParser
import Console
import EditWorker
import Logging
import NIOPosix
import SeedreamAPI
import Settings
import SharedValues

/// `console`: a page for people.
struct ConsoleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "console",
        abstract: "Serve a web page that shows the queues, the fleet and the failed jobs, and replays them.",
        discussion: """
            Example: seedream-worker console --listen 127.0.0.1:9470

            It does what the other commands do, with the rights of its own broker URL. Anybody who reaches the address can \
            use it: any but a loopback address needs --password-file. With an API token, a followed job shows its images.
            """
    )

    @Option(help: ArgumentHelp("The address to listen on. Port 0 takes a free one.", valueName: "host:port"))
    var listen = "127.0.0.1:9470"

    @Option(help: ArgumentHelp("A file with the password that the console asks for.", valueName: "file"))
    var passwordFile: String?

    @Flag(help: "Do not show the images of jobs, which the browser asks their own servers for.")
    var noImages = false

    @OptionGroup
    var settings: SettingFlags<ConsoleSettings>

    func run() async throws {
        guard let address = WorkerSettings.ListenAddress(listen) else {
            throw ValidationError("--listen '\(listen)' is not HOST:PORT")
        }
        let password = try password()
        guard password != nil || ConsoleOptions.isLoopback(address.host) else {
            Output.error(
                "seedream-worker: --listen \(listen) can be reached from elsewhere; give --password-file, or listen on 127.0.0.1"
            )
            throw ExitCode(ExitStatus.settings)
        }
        let settings = try settings.read().settings
        var options = ConsoleOptions(
            host: address.host,
            port: address.port,
            broker: BrokerSession.access(settings, for: "console"),
            queues: settings.queues,
            version: Version.current,
            person: Process.person
        )
        options.password = password
        options.showsImages = !noImages
        options.unknownFields = settings.unknownFields
        // Without a token no task is looked at; the addresses of images are nowhere else.
        let tokens = try settings.tokens()
        let client = try tokens.map { _ in try settings.lookingClient() }
        if let client, let tokens {
            options.look = { TaskStatusTable.status(of: await client.look(atTask: $0, token: tokens.token)) }
        }
        do {
            try await serve(options)
        } catch {
            try? await client?.shutdown()
            throw error
        }
        try await client?.shutdown()
    }

    private func serve(_ options: ConsoleOptions) async throws {
        let host = options.host.contains(":") ? "[\(options.host)]" : options.host
        do {
            let server = ConsoleServer(options)
            _ = try await Interruption.run {
                try await server.run { port in Output.error("console: http://\(host):\(port)/") }
            }
        } catch {
            Output.error(
                "seedream-worker: --listen: \(error); is the port taken?"
            )
            throw ExitCode(ExitStatus.unavailable)
        }
    }

    private func password() throws -> String? {
        guard let passwordFile else { return nil }
        guard let text = SecretFile.text(at: passwordFile) else {
            Output.error("seedream-worker: --password-file: cannot read \(passwordFile)")
            throw ExitCode(ExitStatus.settings)
        }
        let password = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
        guard password.count >= 8 else {
            Output.error(
                "seedream-worker: --password-file: the first line of \(passwordFile) must have 8 characters or more"
            )
            throw ExitCode(ExitStatus.settings)
        }
        return password
    }
}
