/// Why the gate is closed, by its stable names.
package enum GateReason: String, Hashable, Sendable, CaseIterable {
    case dns
    case connect
    case tls
    case redirect
    case auth
    case credits
    case quota
    case forbidden
    case endpoint
    case rateLimited = "rate_limited"
    case maintenance
    case unavailable
    case featureDisabled = "feature_disabled"
    case originDown = "origin_down"
    case serverError = "server_error"
    case noAnswer = "no_answer"
    case contract
    /// Never of the API: the worker's own journal cannot be written.
    case journal
    /// Never of the API: the stream that the replicas share does not answer.
    case ledger
    /// Never of the API: the next job does not fit the images that the fleet may submit per period.
    case budget
    /// Never of the API: an operator has paused the fleet.
    case paused

    /// Whether it is about the account, and so about all replicas.
    package var isOfAccount: Bool {
        switch self {
        case .rateLimited, .credits, .quota, .maintenance: true
        default: false
        }
    }

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
