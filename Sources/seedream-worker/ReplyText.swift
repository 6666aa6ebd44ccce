import JSON

/// A reply for people.
enum ReplyText {
    /// What became of the job, and why, in one line.
    static func line(_ id: String, _ reply: JSONValue?) -> String {
        let name = Terminal.plain(id)
        if reply?["status"]?.text == "completed", case .array(let images)? = reply?["images"] {
            let urls = images.compactMap { $0["url"]?.text }.map { Terminal.plain($0) }
            return "\(name)  completed  \(urls.joined(separator: " "))"
        }
        if reply?["status"]?.text == "submitted", let taskID = reply?["task_id"]?.text {
            return "\(name)  submitted  \(Terminal.plain(taskID))"
        }
        let error = reply?["error"]
        let code = error?["code"]?.text ?? "unreadable_reply"
        return "\(name)  failed     \(code): \(Terminal.plain(error?["message"]?.text ?? ""))"
    }
}
