package import EditJob
package import JSON
package import Journal
import SharedValues

// The ledger's records as people and other programs read them; `deploy/schemas/ledger.schema.json` says the same.

extension LedgerMessage {
    /// The version that this program writes, and the latest that it reads.
    private static let formatVersion: Int64 = 1

    /// A message that is none of the ledger's, or of a format that this version does not know.
    package struct Unreadable: Error {
        /// Whether it is of a later format.
        package let isNewer: Bool
    }

    /// A message may hold any number as its time; it is clamped to these, so that computing with it cannot overflow.
    private static let times: ClosedRange<Int64> = 0...1 << 50

    /// Reads a message; records of an unknown kind are kept as such.
    package init(parsing bytes: [UInt8]) throws(Unreadable) {
        let json = try? JSONValue(parsing: bytes)
        guard let json, json["v"]?.exactInteger == Self.formatVersion,
            let replica = json["replica"]?.text, let number = json["n"]?.exactInteger, number >= 0,
            let at = json["at"]?.exactInteger, case .array(let records)? = json["records"]
        else {
            let version = json?["v"]?.exactInteger ?? 0
            throw Unreadable(isNewer: version > Self.formatVersion && json?["replica"]?.text != nil)
        }
        self.init(
            replica: replica,
            writer: json["by"]?.text ?? "",
            number: number,
            at: min(max(at, Self.times.lowerBound), Self.times.upperBound),
            records: records.map { LedgerRecord($0) }
        )
    }

    /// What parsing `encoded` would give; nil if only parsing can tell.
    package var asRead: LedgerMessage? {
        number >= 0 && Self.times.contains(at) && records.allSatisfy(\.isReadAsWritten) ? self : nil
    }

    package var encoded: [UInt8] {
        JSONValue.object([
            JSONMember("v", .integer(Self.formatVersion)), JSONMember("replica", .string(replica)),
            JSONMember("by", .string(writer)), JSONMember("n", .integer(number)), JSONMember("at", .integer(at)),
            JSONMember("records", .array(records.map(\.json))),
        ])
        .encoded()
    }
}

extension LedgerRecord {
    /// The record in JSON.
    package var json: JSONValue {
        var members = [JSONMember("kind", .string(kind))]
        func add(_ name: String, _ value: JSONValue?) {
            if let value { members.append(JSONMember(name, value)) }
        }
        switch self {
        case .begin(let request):
            add("job", .string(request.id))
            add("digest", .string(request.digest.hexadecimal))
            add("images", .integer(Int64(request.images)))
            add("attempts", .integer(Int64(request.attempts)))
            add("replay", request.replay > 0 ? .integer(request.replay) : nil)
            add("accepts_double_charge", request.acceptsDoubleCharge ? .boolean(true) : nil)
            add("of_ended_task", request.isOfEndedTask ? .boolean(true) : nil)
            add("takes_verdict", request.takesVerdict ? .boolean(true) : nil)
            add("retries_unfinished", request.retriesUnfinished ? .boolean(true) : nil)
            add("in_doubt", request.mayBeSubmittedElsewhere ? .boolean(true) : nil)
            add("edited_from", request.editedFrom.map { .string($0) })
        case .end(let id, let end):
            add("job", .string(id))
            add("verdict", .string(end.name))
            switch end.verdict {
            case .accepted(let taskID, let at):
                add("task_id", .string(taskID))
                add("submitted_at", at.map { .integer($0.milliseconds) })
            case .refused(let failure), .unknown(let failure):
                // Not its message, which may repeat what the API has said of the job.
                add("code", .string(failure.code.rawValue))
                add("charged", .string(failure.charged.rawValue))
                add("http_status", failure.httpStatus.map { .integer(Int64($0)) })
            case .retry, .givenBack:
                if end.mayBeDuplicate { add("attempts", .integer(Int64(end.attempts))) }
            }
        case .settled(let id): add("job", .string(id))
        case .abandon(let id, let begun):
            add("job", .string(id))
            add("begun", begun.json)
        case .withdrawn(let id, let replay):
            add("job", .string(id))
            add("replay", replay > 0 ? .integer(replay) : nil)
        case .cancel(let jobs, let reason):
            add("jobs", .array(jobs.map(\.json)))
            add("reason", reason.isEmpty ? nil : .string(reason))
        case .lift(let jobs): add("jobs", .array(jobs.map(\.json)))
        case .hello(let greeting):
            add("version", .string(greeting.version))
            let settings = greeting.settings.sorted { $0.key < $1.key }
            add("settings", .object(settings.map { JSONMember($0.key, .string($0.value)) }))
        case .known(let offset, let gap, let read):
            add("from", .integer(offset))
            add("gap", gap?.json)
            add("read", read?.json)
        case .slots(let count): add("count", .integer(Int64(count)))
        case .closed(let reason, let milliseconds, let isHeld):
            add("reason", .string(reason))
            add("ms", .integer(milliseconds))
            add("held", isHeld ? .boolean(true) : nil)
        case .probe(let closure, let after):
            add("closure", closure.json)
            add("after", after?.json)
        case .opened(let closure): add("closure", closure.json)
        case .resume(let pause): add("pause", pause?.json)
        case .pause(let reason): add("reason", .string(reason))
        case .alive(let report): members += report.members
        case .followed(let id, let taskID, let code):
            add("job", .string(id))
            add("task_id", .string(taskID))
            add("code", code.map { .string($0) })
        case .bye, .gap, .unknown: break
        }
        return .object(members)
    }

    /// Whether reading `json` would give the same, as for the records that every job has; false if only reading can tell.
    fileprivate var isReadAsWritten: Bool {
        switch self {
        case .begin(let request):
            let isCounted = JSONValue.counts.contains(request.attempts) && JSONValue.counts.contains(request.images)
            return isCounted && request.replay >= 0 && !request.isAnonymous
        case .end(_, let end):
            switch end.verdict {
            case .accepted(_, let at):
                return at.map { JobEnd.moments.contains($0.milliseconds) } != false
            case .retry, .givenBack: return !end.mayBeDuplicate
            case .refused, .unknown: return false
            }
        case .settled: return true
        case .withdrawn(_, let replay): return replay >= 0
        default: return false
        }
    }

    /// Reads a record; one that this version cannot read is `unknown`.
    package init(_ json: JSONValue) {
        let kind = json["kind"]?.text ?? ""
        self = Self.known(kind, json) ?? .unknown(kind: kind)
    }

    private static func known(_ kind: String, _ json: JSONValue) -> LedgerRecord? {
        let id = json["job"]?.text
        switch kind {
        case "begin":
            guard let id, let digest = json["digest"]?.text.flatMap({ BodyDigest(hexadecimal: $0) }) else { return nil }
            var request = JournalRequest(id: id, digest: digest, attempts: json.count("attempts") ?? 1)
            request.images = json.count("images") ?? 1
            request.replay = max(0, json["replay"]?.exactInteger ?? 0)
            request.acceptsDoubleCharge = json["accepts_double_charge"] == .boolean(true)
            request.isOfEndedTask = json["of_ended_task"] == .boolean(true)
            request.takesVerdict = json["takes_verdict"] == .boolean(true)
            request.retriesUnfinished = json["retries_unfinished"] == .boolean(true)
            request.mayBeSubmittedElsewhere = json["in_doubt"] == .boolean(true)
            request.editedFrom = json["edited_from"]?.text
            return .begin(request)
        case "end":
            guard let id, let end = JobEnd(json) else { return nil }
            return .end(id: id, end)
        case "settled": return id.map { .settled(id: $0) }
        case "abandon":
            guard let id, let begun = LedgerMessage.ID(json["begun"]) else { return nil }
            return .abandon(id: id, begun: begun)
        case "withdrawn": return id.map { .withdrawn(id: $0, replay: max(0, json["replay"]?.exactInteger ?? 0)) }
        case "cancel":
            return json.all("jobs") { CancelledJob($0) }.map { .cancel($0, reason: json["reason"]?.text ?? "") }
        case "lift": return json.all("jobs") { LiftedJob($0) }.map { .lift($0) }
        case "hello":
            var settings: [String: String] = [:]
            if case .object(let members)? = json["settings"] {
                for member in members { settings[member.name] = member.value.text }
            }
            return .hello(LedgerGreeting(version: json["version"]?.text ?? "", settings: settings))
        case "bye": return .bye
        case "gap": return .gap
        case "known":
            let (gap, read) = (LedgerMessage.ID(json["gap"]), LedgerMessage.Place(json["read"]))
            return json.offset("from").map { .known(from: $0, gap: gap, read: read) }
        default: return ofFleet(kind, json)
        }
    }
}

extension LedgerRecord {
    /// The longest closure that is taken from another replica: a day.
    private static let longestClosure: Int64 = 86_400_000

    fileprivate static func ofFleet(_ kind: String, _ json: JSONValue) -> LedgerRecord? {
        switch kind {
        case "slots": return json.count("count").map { .slots($0) }
        case "closed":
            guard let reason = json["reason"]?.text, let milliseconds = json["ms"]?.exactInteger else { return nil }
            let isHeld = json["held"] == .boolean(true)
            return .closed(reason: reason, milliseconds: min(max(0, milliseconds), longestClosure), isHeld: isHeld)
        case "probe":
            return LedgerMessage.ID(json["closure"])
                .map { .probe(closure: $0, after: LedgerMessage.ID(json["after"])) }
        case "opened": return LedgerMessage.ID(json["closure"]).map { .opened(closure: $0) }
        case "pause": return .pause(reason: json["reason"]?.text ?? "")
        case "resume": return .resume(pause: LedgerMessage.ID(json["pause"]))
        case "followed":
            guard let id = json["job"]?.text, let taskID = json["task_id"]?.text else { return nil }
            return .followed(id: id, taskID: taskID, code: json["code"]?.text)
        case "alive": return .alive(LedgerReport(json))
        default: return nil
        }
    }
}

extension CancelledJob {
    fileprivate var json: JSONValue {
        var members = [JSONMember("job", .string(id))]
        if let replay { members.append(JSONMember("replay", .integer(replay))) }
        if let allowed { members.append(JSONMember("allowed", .string(allowed.hexadecimal))) }
        return .object(members)
    }

    fileprivate init?(_ json: JSONValue) {
        guard let id = json["job"]?.text else { return nil }
        self.init(
            id: id,
            replay: json["replay"]?.exactInteger.map { max(0, $0) },
            allowed: json["allowed"]?.text.flatMap { BodyDigest(hexadecimal: $0) }
        )
    }
}

extension LiftedJob {
    fileprivate var json: JSONValue {
        .object([JSONMember("job", .string(id)), JSONMember("digest", .string(digest.hexadecimal))])
    }

    fileprivate init?(_ json: JSONValue) {
        guard let id = json["job"]?.text, let digest = json["digest"]?.text.flatMap({ BodyDigest(hexadecimal: $0) })
        else { return nil }
        self.init(id: id, digest: digest)
    }
}

extension LedgerReport {
    fileprivate var members: [JSONMember] {
        var members = [
            JSONMember("version", .string(version)), JSONMember("since", .integer(since)),
            JSONMember("in_flight", .integer(Int64(inFlight))),
        ]
        if let gate { members.append(JSONMember("gate", .string(gate))) }
        if let paused { members.append(JSONMember("paused", .string(paused))) }
        if let pause { members.append(JSONMember("pause", pause.json)) }
        if let known { members.append(JSONMember("known", .integer(known))) }
        if let gap { members.append(JSONMember("gap", gap.json)) }
        if let read { members.append(JSONMember("read", read.json)) }
        if let user { members.append(JSONMember("user", .string(user))) }
        if let writers { members.append(JSONMember("writers", .string(writers))) }
        if let rate { members.append(JSONMember("rate", rate.json)) }
        if let budget { members.append(JSONMember("budget", budget.json)) }
        return members
    }

    fileprivate init(_ json: JSONValue) {
        self.init(
            version: json["version"]?.text ?? "",
            since: min(max(0, json["since"]?.exactInteger ?? 0), 1 << 50),
            inFlight: json.count("in_flight", 0...1_000_000) ?? 0
        )
        gate = json["gate"]?.text
        paused = json["paused"]?.text
        pause = LedgerMessage.ID(json["pause"])
        known = json.offset("known")
        gap = LedgerMessage.ID(json["gap"])
        read = LedgerMessage.Place(json["read"])
        user = json["user"]?.text
        writers = json["writers"]?.text
        rate = json["rate"].flatMap { Share($0) }
        budget = json["budget"].flatMap { Share($0) }
    }
}

extension LedgerMessage.ID {
    fileprivate var json: JSONValue {
        .object([JSONMember("replica", .string(replica)), JSONMember("n", .integer(number))])
    }

    fileprivate init?(_ json: JSONValue?) {
        guard let replica = json?["replica"]?.text, let number = json?["n"]?.exactInteger, number >= 0 else {
            return nil
        }
        self.init(replica: replica, number: number)
    }
}

extension LedgerMessage.Place {
    fileprivate var json: JSONValue {
        .object([
            JSONMember("replica", .string(message.replica)), JSONMember("n", .integer(message.number)),
            JSONMember("offset", .integer(offset)),
        ])
    }

    fileprivate init?(_ json: JSONValue?) {
        guard let message = LedgerMessage.ID(json), let offset = json?.offset("offset") else { return nil }
        self.init(message, at: offset)
    }
}

extension LedgerReport.Share {
    package var json: JSONValue {
        .object([JSONMember("used", .integer(Int64(used))), JSONMember("limit", .string(limit))])
    }

    fileprivate init?(_ json: JSONValue) {
        guard let limit = json["limit"]?.text else { return nil }
        self.init(used: json.count("used", 0...Int(Int32.max)) ?? 0, limit: limit)
    }
}

extension JobEnd {
    fileprivate static let moments: ClosedRange<Int64> = 0...1 << 50

    /// What a record tells of it: the verdict, and what may come of a job that is submitted again.
    package var recorded: JobEnd {
        switch verdict {
        case .accepted, .refused, .unknown: JobEnd(verdict, attempts: 0)
        case .retry, .givenBack: mayBeDuplicate ? .retrying(attempts: attempts) : .released
        }
    }

    fileprivate var name: String {
        switch verdict {
        case .accepted: "accepted"
        case .refused, .unknown: "failed"
        case .retry, .givenBack: mayBeDuplicate ? "retrying" : "released"
        }
    }

    fileprivate init?(_ json: JSONValue) {
        switch json["verdict"]?.text {
        case "accepted":
            guard let taskID = json["task_id"]?.text else { return nil }
            let at = json["submitted_at"]?.exactInteger.flatMap { Self.moments.contains($0) ? $0 : nil }
            self.init(.accepted(taskID: taskID, at: at.map { Timestamp(milliseconds: $0) }), attempts: 0)
        case "failed":
            // What cannot be read is taken for the worse.
            let code = json["code"]?.text.flatMap { JobFailure.Code(rawValue: $0) } ?? .outcomeUnknown
            let isFree = json["charged"]?.text == JobFailure.Charge.no.rawValue
            let status = json.count("http_status", 0...999)
            self.init(Verdict(.remembered(code, charged: isFree ? .no : .maybe, status: status)), attempts: 0)
        case "released": self = .released
        case "retrying": self = .retrying(attempts: json.count("attempts", 0...1_000_000) ?? 1)
        default: return nil
        }
    }
}

extension JobFailure {
    /// A failure of which only the ledger's few words are left.
    static func remembered(_ code: Code, charged: Charge, status: Int?) -> JobFailure {
        let answer = status.map { " after a \($0) of the API" } ?? ""
        let message =
            switch (code, charged) {
            case (.outcomeUnknown, _), (_, .maybe):
                "An earlier delivery of this job ended without a known outcome\(answer): it may have been accepted and "
                    + "charged. Look for it in the account before replaying it."
            case (_, .no):
                "An earlier delivery of this job failed\(answer) (\(code.rawValue)); its own reply says more."
            }
        return JobFailure(code, message, charged: charged, httpStatus: status)
    }
}

extension JSONValue {
    fileprivate static let counts = 1...1_000_000

    /// A place in a stream; nil of anything else.
    fileprivate func offset(_ name: String) -> Int64? {
        self[name]?.exactInteger.flatMap { (0...1 << 60).contains($0) ? $0 : nil }
    }

    /// An array of which each element can be read; nil of anything else.
    fileprivate func all<Element>(_ name: String, _ read: (JSONValue) -> Element?) -> [Element]? {
        guard case .array(let elements)? = self[name] else { return nil }
        let all = elements.compactMap(read)
        return all.count == elements.count ? all : nil
    }

    /// A whole number within a range; nil of anything else.
    fileprivate func count(_ name: String, _ range: ClosedRange<Int> = counts) -> Int? {
        self[name]?.exactInteger.flatMap { Int(exactly: $0) }.flatMap { range.contains($0) ? $0 : nil }
    }
}

extension BodyDigest {
    /// 32 digits.
    package var hexadecimal: String {
        // In halves: a number of 128 bits is written by generic code, which takes five hundred instructions a digit.
        [value >> 64, value]
            .reduce(into: "") { text, half in
                let digits = String(UInt64(truncatingIfNeeded: half), radix: 16)
                text += String(repeating: "0", count: 16 - digits.utf8.count) + digits
            }
    }

    package init?(hexadecimal text: String) {
        guard text.utf8.count == 32, let value = UInt128(text, radix: 16) else { return nil }
        self.init(value: value)
    }
}
