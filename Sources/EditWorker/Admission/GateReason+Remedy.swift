package import Journal
package import SeedreamAPI

extension GateReason {
    /// What an operator can do about it.
    package var remedy: String {
        switch self {
        case .dns: "check api.baseUrl and the name service"
        case .connect: "check api.baseUrl, the network and the API's status"
        case .tls: "check the API's certificate and api.caFile"
        case .redirect: "set api.baseUrl to the address that the API redirects to"
        case .auth: "put a valid token into api.token or its file"
        case .credits: "add credit to the account"
        case .quota: "raise the account's quota, or wait until it is renewed"
        case .forbidden: "check the account's permissions and that nothing between here and the API blocks it"
        case .endpoint: "check api.baseUrl; the API's path or protocol may have changed"
        case .rateLimited: "set worker.rateLimit below the account's limit"
        case .maintenance, .unavailable, .originDown, .serverError: "wait for the API; see its status page"
        case .noAnswer: "wait for the API, or raise api.timeout; see the jobs in the queue of unknown outcomes"
        case .featureDisabled: "ask the API's support to enable the operation"
        case .journal: "see the log for what is wrong with journal.store"
        case .budget: "wait, or raise fleet.budget; seedream-worker fleet shows what was used"
        case .paused: "end the pause with: seedream-worker fleet resume"
        case .ledger: "check the broker, and its stream that is named after the job queue with .ledger"
        case .contract: "compare the API's answers with its documentation; they cannot be read"
        }
    }
}

extension SubmissionOutcome.ServiceFault.Cause {
    /// What an operator can do about it.
    package var remedy: String {
        switch self {
        case .proxy(let words): "\(words); check api.proxy"
        case .outOfFiles:
            "raise the limit of open files of this process (ulimit -n, LimitNOFILE), or lower worker.concurrency; "
                + "no connection can be opened"
        }
    }
}

extension JournalFault {
    /// Why the gate is closed where a job cannot begin.
    package var gateReason: GateReason {
        switch kind {
        case .store: .journal
        case .ledger: .ledger
        case .budget: .budget
        }
    }
}
