import ArgumentParser
import EditWorker
import Settings

extension WorkerSettings {
    /// Where the token comes from; nil if none was given.
    ///
    /// Says what is wrong with a token's file, and ends with 78.
    func tokens() throws -> TokenSource? {
        switch apiToken {
        case .value(let token): return TokenSource(value: token)
        case .file(let path):
            do {
                return try TokenSource(path: path)
            } catch {
                Output.error("seedream-worker: api.tokenFile: \(error)")
                throw ExitCode(ExitStatus.settings)
            }
        case nil: return nil
        }
    }
}
