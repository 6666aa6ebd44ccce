import ArgumentParser
import EditJob
import JSON
import Settings

/// `validate`: the checks of the worker, offline.
struct Validate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check jobs offline, by the worker's own rules.",
        discussion: """
            Example: seedream-worker validate jobs.ndjson

            Prints FILE:LINE: POINTER: message (code) for each fault. The exit status is 1 if there is any.
            """
    )

    @Argument(help: "Files with one job per line, or a JSON array or object. Use - for stdin.")
    var files: [String]

    @Option(help: "The form of the output.")
    var format = OutputFormat.text

    @OptionGroup
    var flags: SettingFlags<ValidateSettings>

    func run() async throws {
        let policy = try flags.read().settings.unknownFields
        var jobs = 0
        var invalid = 0
        for file in files {
            _ = try await JobFile.readEach(in: LineReader(file)) { job in
                jobs += 1
                do throws(EditJob.Invalid) {
                    _ = try job.checked(unknownFields: policy)
                } catch {
                    invalid += 1
                    report(error, at: job)
                }
                return true
            }
        }
        Output.error("\(jobs) jobs, \(invalid) invalid")
        if invalid > 0 { throw ExitCode(ExitStatus.someFailed) }
    }

    private func report(_ invalid: EditJob.Invalid, at job: JobFile.Job) {
        switch invalid {
        case .malformed(let error):
            print(job, line: job.line + error.line - 1, "", "malformed_json", "column \(error.column): \(error.reason)")
        case .violations(let violations):
            for violation in violations {
                let pointer = (job.element.map { "/\($0)" } ?? "") + violation.pointer.description
                print(job, line: job.line, pointer, violation.code.rawValue, violation.message)
            }
        }
    }

    private func print(_ job: JobFile.Job, line: Int, _ pointer: String, _ code: String, _ message: String) {
        switch format {
        case .text:
            Output.result("\(job.file):\(line): \(pointer.isEmpty ? "" : pointer + ": ")\(message) (\(code))")
        case .json:
            let json = JSONValue.object([
                JSONMember("file", .string(job.file)), JSONMember("line", .integer(Int64(line))),
                JSONMember("pointer", .string(pointer)), JSONMember("code", .string(code)),
                JSONMember("message", .string(message)),
            ])
            Output.result(String(decoding: json.encoded(), as: UTF8.self))
        }
    }
}
