import EditWorker
import SeedreamAPI

/// What to do about a code or a reason, in a sentence.
enum Advice {
    static func deadLetter(_ code: String, isUnknown: Bool) -> String {
        switch code {
        case "invalid_job", "malformed_json", "unsupported_content_type":
            "The job breaks the API's rules and costs nothing. Correct it and replay it, or tell its producer and discard it."
        case "message_too_large":
            "The job is larger than worker.maxMessageBytes. Tell its producer; raise the setting if such jobs are right."
        case "requester_gone":
            "The requester had gone before it was submitted. Discard it, or replay it if it is still wanted."
        case "job_id_conflict":
            "Another job had this id before. Have the producer give each job an id of its own, and publish it again."
        case "api_rejected":
            "The API refused the job for good; its words are in the message. Correct and replay it, or discard it."
        case "content_rejected":
            "The API refused the content. The same content will be refused again: change it, or discard it."
        case "retries_exhausted": "The API was sick for too long. Replay it once the API is well."
        case "generation_failed":
            "The API took the job and made no images; it may have charged for it. Ask the vendor by the task id."
        case "task_not_found", "result_unreadable":
            "The API took the job, and nothing can be learnt of its task. Look for the task id in the account."
        case "follow_timeout":
            "The task took longer than follow.deadline. Look for the task id in the account: the images may be there."
        case "outcome_unknown":
            "It may have been paid for. Look in the account for a task of that time; replay it only if there is none."
        case "delivery_limit":
            "Workers died with it again and again. See their logs; each of them may have submitted it."
        case "cancelled":
            "An operator has cancelled it. Replay it if it is wanted after all, or discard it."
        case "expired":
            "It expired before a worker could take it. Replay it if it is still wanted, or discard it."
        default:
            isUnknown
                ? "It may have been paid for. Look in the account before you replay it."
                : "The broker has put it here, not a worker. See the queue's limits and the workers' logs."
        }
    }

    static func gate(_ reason: String) -> String {
        guard let remedy = GateReason(rawValue: reason)?.remedy else { return "The workers try again by themselves." }
        return remedy.prefix(1).uppercased() + remedy.dropFirst() + "."
    }
}
