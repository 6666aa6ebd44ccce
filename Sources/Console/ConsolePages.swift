import EditJob
import EditWorker
import JSON
import Journal
import Ledger
import NIOHTTP1
import OperatorTools
import RabbitMQ
import SeedreamAPI
import SharedValues

/// The console's pages and actions, by their paths.
struct ConsolePages: Sendable {
    private let options: ConsoleOptions
    private let sampler: QueueSampler
    private let sessions: Sessions
    private let service: DeadLetterService

    init(_ options: ConsoleOptions, sampler: QueueSampler, sessions: Sessions) {
        self.options = options
        self.sampler = sampler
        self.sessions = sessions
        service = DeadLetterService(options)
    }

    private func layout(_ session: Sessions.Session) -> Layout {
        Layout(options: options, session: session, news: sessions.takeNews(session))
    }

    /// A page; nothing is changed by it.
    ///
    /// `host` is the console's own name, as the browser has it.
    func page(_ path: String, _ query: FormData, _ session: Sessions.Session, host: String?) async -> Answer {
        do {
            switch path {
            case "/":
                // To its end, even if the client has left: everybody sees the result.
                if !sampler.state.knowsFleet { await Task { await sampler.readFleet() }.value }
                return Answer(OverviewPage(state: sampler.state, layout: layout(session)).html)
            case "/overview-now":
                let bare = Layout(options: options, session: session, news: [])
                return Answer(OverviewPage(state: sampler.state, layout: bare).now)
            case "/dead-letters", "/unknown":
                let queue = path == "/unknown" ? DeadLetterService.Queue.unknown : .deadLetters
                return try await letters(LetterChoice(query, queue: queue), session)
            case "/act": return try await preview(query, session)
            case "/export": return try await export(LetterChoice(query))
            case "/correct": return try await correction(query, session)
            case "/job": return try await job(query, session, host: host)
            case "/history": return try await history(query, session)
            default: return .fault(.notFound, "There is no such page.", options)
            }
        } catch {
            return fault(error)
        }
    }

    /// An action that a person has asked for.
    func act(_ path: String, _ form: FormData, _ session: Sessions.Session) async -> Answer {
        do {
            switch path {
            case "/replay": return try await replay(form, session)
            case "/discard": return try await discard(form, session)
            case "/correct": return try await correct(form, session)
            case "/fleet/pause": return try await order(.pause(reason: form.word("reason") ?? ""), "Paused.", session)
            case "/fleet/resume": return try await order(.resume, "Resumed.", session)
            default: return .fault(.notFound, "There is no such action.", options)
            }
        } catch {
            return fault(error)
        }
    }

    private func fault(_ error: any Error) -> Answer {
        let isWorded = error is Replay.Refusal || error is OperatorRecords.NotHeard || error is AMQPError
        let words = isWorded ? "\(error)" : "This did not work: \(error)"
        return .fault(.serviceUnavailable, words, options)
    }

    // MARK: - Dead letters

    private func letters(_ choice: LetterChoice, _ session: Sessions.Session) async throws -> Answer {
        guard let filter = choice.filter else { return noTime(choice) }
        do {
            let look = try await service.look(choice.queue, filter, limit: DeadLettersPage.most)
            return Answer(DeadLettersPage(choice: choice, look: look, layout: layout(session)).html)
        } catch let error as AMQPError where error.code == .notFound {
            let words = Layout.empty(
                "There is no such queue yet. Workers make it when they start, as does: seedream-worker topology declare"
            )
            return Answer(layout(session).page(choice.queue.place.title, at: choice.queue.place, words))
        }
    }

    private func noTime(_ choice: LetterChoice) -> Answer {
        .fault(
            .badRequest,
            "'\((choice.since ?? "").cut(to: 80))' is neither a duration such as 2h nor a time such as 2026-01-31T08:00:00Z.",
            options
        )
    }

    private func preview(_ query: FormData, _ session: Sessions.Session) async throws -> Answer {
        let choice = LetterChoice(query)
        if query["act"] == "export" { return .redirect(FormData.address("/export", choice.fields)) }
        guard let act = query["act"].flatMap({ ActPage.Act(rawValue: $0) }) else {
            return .fault(.badRequest, "There is no such action.", options)
        }
        guard let filter = choice.filter else { return noTime(choice) }
        let until = Timestamp.now
        let summary = try await service.summary(choice.queue, filter)
        let from = choice.queue == .unknown ? options.queues.unknown : options.queues.deadLetters
        let page = ActPage(
            act: act,
            choice: choice,
            summary: summary,
            queues: (options.queueName, from.text),
            until: until.description,
            layout: layout(session)
        )
        return Answer(page.html)
    }

    private func replay(_ form: FormData, _ session: Sessions.Session) async throws -> Answer {
        let choice = LetterChoice(form)
        guard let filter = choice.filter else { return noTime(choice) }
        let tally = try await service.replay(choice.queue, filter, acceptsDoubleCharge: form["consent"] == "yes")
        return done(choice, "\(counted(tally.done)) replayed.", tally, session)
    }

    private func discard(_ form: FormData, _ session: Sessions.Session) async throws -> Answer {
        let choice = LetterChoice(form)
        guard let filter = choice.filter else { return noTime(choice) }
        guard form["sure"] == "yes" else {
            return .fault(.badRequest, "Confirm that they are to be removed for ever. Nothing was removed.", options)
        }
        let tally = try await service.discard(choice.queue, filter)
        return done(choice, "\(counted(tally.done)) discarded.", tally, session)
    }

    private func counted(_ number: Int) -> String { number == 1 ? "1 job" : "\(number) jobs" }

    private func done(
        _ choice: LetterChoice,
        _ words: String,
        _ tally: DeadLetterService.Tally,
        _ session: Sessions.Session
    ) -> Answer {
        sessions.tell(words, session)
        if tally.done == 0, tally.left == 0 {
            sessions.tell("There was nothing left to do: it was replayed or discarded meanwhile.", session)
        }
        if tally.withoutRequester > 0 {
            sessions.tell(
                "\(counted(tally.withoutRequester)) had a direct reply-to whose requester is gone: "
                    + "their replies go to the queue of results.",
                session
            )
        }
        if tally.left > 0 {
            sessions.tell(
                "\(counted(tally.left)) may have been paid for and stayed here, because you did not consent.",
                session
            )
        }
        return .redirect(choice.queue.place.rawValue)
    }

    private func export(_ choice: LetterChoice) async throws -> Answer {
        guard let filter = choice.filter else { return noTime(choice) }
        return try await .download("\(choice.queue.rawValue).ndjson", service.export(choice.queue, filter))
    }

    // MARK: - One job

    private func correction(_ query: FormData, _ session: Sessions.Session) async throws -> Answer {
        let choice = LetterChoice(query)
        guard let letter = try await letter(choice) else { return gone }
        let form = JobForm(letter.delivery.body)
        let page = CorrectPage(
            letter: letter,
            choice: choice,
            form: form,
            violations: violations(form.body).violations,
            fault: nil,
            isChecked: false,
            layout: layout(session)
        )
        return Answer(page.html)
    }

    private func correct(_ form: FormData, _ session: Sessions.Session) async throws -> Answer {
        let choice = LetterChoice(form)
        guard let letter = try await letter(choice) else { return gone }
        let fields = JobForm(form, of: letter.delivery.body)
        let body = fields.body
        let (violations, fault) = violations(body)
        let isValid = violations.isEmpty && fault == nil
        let needsConsent = choice.queue == .unknown || letter.mayHaveBeenCharged
        guard isValid, form["step"] == "replay", !needsConsent || form["consent"] == "yes" else {
            let page = CorrectPage(
                letter: letter,
                choice: choice,
                form: fields,
                violations: violations,
                fault: fault,
                isChecked: isValid,
                layout: layout(session)
            )
            return Answer(page.html, status: isValid ? .ok : .unprocessableEntity)
        }
        let tally = try await service.replay(
            choice.queue,
            choice.filter ?? DeadLetterFilter(),
            acceptsDoubleCharge: needsConsent,
            correction: .replace(letter.delivery.body, by: body)
        )
        for fault in tally.faults { sessions.tell(fault, session) }
        return done(choice, "\(counted(tally.done)) corrected and replayed.", tally, session)
    }

    private func violations(_ body: [UInt8]) -> (violations: [Violation], fault: String?) {
        do {
            _ = try EditJob(parsing: body, unknownFields: options.unknownFields)
            return ([], nil)
        } catch {
            switch error {
            case .malformed(let fault): return ([], "It is not valid JSON: \(fault).")
            case .violations(let violations): return (violations, nil)
            }
        }
    }

    /// The one letter that is meant.
    private func letter(_ choice: LetterChoice) async throws -> DeadLetter? {
        guard choice.marks.count == 1, let filter = choice.filter else { return nil }
        return try await service.look(choice.queue, filter, limit: 1, patience: .seconds(5)).letters.first
    }

    private var gone: Answer {
        .fault(.notFound, "The letter is no longer there: it was replayed or discarded.", options)
    }

    private func job(_ query: FormData, _ session: Sessions.Session, host: String?) async throws -> Answer {
        guard let id = query.word("id") else { return .redirect("/") }
        var faults: [String] = []
        var submissions: [SubmissionRecord]?
        if id != DeadLetter.noID {
            do {
                submissions = try await ledger(from: .first)?.filter { $0.jobID == id }
            } catch {
                faults.append("The ledger cannot be read. \(error)")
            }
        }
        var letters: [(queue: DeadLetterService.Queue, letter: DeadLetter)] = []
        for queue in [DeadLetterService.Queue.deadLetters, .unknown] {
            var filter = DeadLetterFilter(jobs: [id])
            if query["queue"] == queue.rawValue { filter.marks = Set(query.all("mark")) }
            // A job without an id is one letter, not all of that kind.
            if id == DeadLetter.noID, filter.marks.isEmpty { continue }
            do {
                let look = try await service.look(queue, filter, limit: 5, patience: .seconds(2))
                letters += look.letters.map { (queue, $0) }
                if !look.isWhole, look.letters.isEmpty {
                    faults.append(
                        "Only the oldest \(look.seen) of \(look.total) letters of \(queue.place.title.lowercased()) were looked at."
                    )
                }
            } catch let error as AMQPError where error.code == .notFound {
                continue
            }
        }
        let taskID = submissions?.last { $0.taskID != nil }?.taskID ?? letters.lazy.compactMap(\.letter.taskID).first
        var status: TaskStatus?
        if let taskID, let look = options.look { status = await look(taskID) }
        let page = JobPage(
            id: id,
            submissions: submissions,
            letters: letters,
            status: status,
            faults: faults,
            host: host,
            layout: layout(session)
        )
        return Answer(page.html, imageOrigins: page.imageOrigins)
    }

    // MARK: - What all replicas know

    /// What was submitted, read from an offset; nil if there is no ledger.
    private func ledger(from start: StreamOffset) async throws -> [SubmissionRecord]? {
        do {
            return try await options.broker.withConnection(for: "history") { connection in
                var history = LedgerHistory()
                try await LedgerReader.read(options.queues.ledger, from: start, on: connection) {
                    history.read($0, at: $1)
                }
                return history.submissions
            }
        } catch let error as AMQPError where error.code == .notFound {
            return nil
        }
    }

    private func history(_ query: FormData, _ session: Sessions.Session) async throws -> Answer {
        let since = query.word("since") ?? "24h"
        guard let moment = Timestamp(ago: since, before: .now) else { return noTime(LetterChoice(query)) }
        var fault: String?
        var submissions: [SubmissionRecord]?
        do {
            // What began before may have ended since: one more hour.
            let from = UInt64(max(0, moment.milliseconds / 1000 - 3600))
            let job = query.word("job")
            submissions = try await ledger(from: .time(from))?
                .filter { $0.submittedAt >= moment && (job == nil || $0.jobID == job) }
        } catch {
            fault = "The ledger cannot be read. \(error)"
        }
        let page = HistoryPage(
            since: since,
            job: query.word("job"),
            price: query.word("price"),
            submissions: submissions,
            fault: fault,
            layout: layout(session)
        )
        return Answer(page.html)
    }

    private func order(_ order: FleetOrder, _ words: String, _ session: Sessions.Session) async throws -> Answer {
        try await options.broker.withConnection(for: "fleet") { connection in
            try await order.give(by: options.person, in: options.queues.ledger, on: connection)
        }
        await sampler.readFleet()
        sessions.tell(words, session)
        return .redirect("/")
    }
}
