/// What a submission means for the job, the money and the service.
package enum SubmissionOutcome: Hashable, Sendable {
    /// The API has taken the job.
    case accepted(taskID: String, AcceptanceWarning?)
    /// The API has refused this job for good. Nothing was charged.
    case rejected(Rejection)
    /// The job was not executed and may be tried again, counted.
    case retry(Postponement)
    /// The service or the account is at fault, not the job. Nothing was charged.
    case serviceFault(ServiceFault)
    /// The job may have been accepted and charged.
    case unknown(Doubt)

    /// Whether it is about the service and not about the job.
    package var isServiceFault: Bool {
        if case .serviceFault = self { return true }
        return false
    }

    /// Something odd about an acceptance.
    package enum AcceptanceWarning: String, Hashable, Sendable {
        case taskIDIsNoUUID = "the task id is not a UUID"
        case shape = "the task id came in a shape that the API does not document"
    }

    package struct Rejection: Hashable, Sendable {
        /// Whether the content was refused, and not the form.
        package var isAboutContent: Bool
        /// The status, from the status line or the envelope.
        package var status: Int
        /// Whether the refusal may be about the service, as several in a row are.
        ///
        /// The table has no row of its own for the status, or a proxy has answered instead of the API.
        package var isUnfamiliar: Bool

        package init(isAboutContent: Bool = false, status: Int, isUnfamiliar: Bool = false) {
            self.isAboutContent = isAboutContent
            self.status = status
            self.isUnfamiliar = isUnfamiliar
        }
    }

    /// A refusal to execute now.
    package struct Postponement: Hashable, Sendable {
        /// The status, from the status line or the envelope.
        package var status: Int
        /// The least wait that the API asked for.
        package var retryAfter: Duration?
        /// The most submissions of the job in all, where the status has a limit of its own.
        package var mostAttempts: Int?

        /// A refusal to execute now.
        package init(status: Int, retryAfter: Duration? = nil, mostAttempts: Int? = nil) {
            self.status = status
            self.retryAfter = retryAfter
            self.mostAttempts = mostAttempts
        }
    }

    /// A fault of the service or the account.
    package struct ServiceFault: Hashable, Sendable {
        /// What is wrong, by its stable name.
        package var reason: GateReason
        /// The status, where the API answered.
        package var status: Int?
        /// The least wait that the API asked for.
        package var retryAfter: Duration?
        /// The least wait that this fault needs, without the API asking for one.
        package var leastDelay: Duration?
        /// What is known to have caused it on this side.
        package var cause: Cause?

        /// What is wrong on this side of the API.
        package enum Cause: Hashable, Sendable {
            /// The limit of open files is reached.
            case outOfFiles
            /// The proxy opens no tunnel, in words for people.
            case proxy(String)

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

        package init(
            reason: GateReason,
            status: Int? = nil,
            retryAfter: Duration? = nil,
            leastDelay: Duration? = nil,
            cause: Cause? = nil
        ) {
            self.reason = reason
            self.status = status
            self.retryAfter = retryAfter
            self.leastDelay = leastDelay
            self.cause = cause
        }
    }

    /// A submission of which it is unknown whether it was accepted.
    package struct Doubt: Hashable, Sendable {
        /// What kind of silence.
        package var kind: Kind
        /// The status, where the API answered.
        package var status: Int?
        /// The least wait that the API asked for.
        package var retryAfter: Duration?
        /// Whether the answer also says that the service cannot take jobs: it closes the gate by itself.
        package var isOfUnavailableService: Bool

        package init(
            kind: Kind,
            status: Int? = nil,
            retryAfter: Duration? = nil,
            isOfUnavailableService: Bool = false
        ) {
            self.kind = kind
            self.status = status
            self.retryAfter = retryAfter
            self.isOfUnavailableService = isOfUnavailableService
        }

        /// The kinds, which the policies tell apart.
        package enum Kind: Hashable, Sendable {
            case silent
            /// A 5xx that says little.
            case gateway
            /// An acceptance without a task id that can be read.
            case unreadable
        }
    }
}
