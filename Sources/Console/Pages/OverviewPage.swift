import EditJob
import Journal
import Ledger
import OperatorTools
import SharedValues

/// The queues, the fleet, and what holds it back.
struct OverviewPage {
    let state: QueueSampler.State
    let layout: Layout

    var html: HTML {
        layout.page(
            "Overview",
            at: .overview,
            "<div data-live=\"/overview-now\">\(now)</div>\(orders)"
        )
    }

    /// What changes by itself: also what the script asks for.
    var now: HTML {
        let fault = state.fault.map {
            Layout.fault("The broker cannot be asked. \($0) Trying again every two seconds.")
        }
        return """
            \(fault ?? "")<section aria-labelledby="queues"><h2 id="queues">Queues</h2>\(cards)
            \(Plot.lines(state.samples, QueueSampler.Kind.allCases))</section>
            <section aria-labelledby="fleet"><h2 id="fleet">Fleet</h2>\(fleet)</section>
            """
    }

    private var cards: HTML {
        guard let sample = state.samples.last else {
            return Layout.empty("The queues are being counted for the first time.")
        }
        let cards = QueueSampler.Kind.allCases.map { kind -> HTML in
            let count = sample.counts[kind.rawValue]
            let calls: HTML = kind.wantsPerson && (count ?? 0) > 0 ? " class=\"calls\"" : ""
            let number: HTML = count.map { "\($0)" } ?? "–"
            let link: HTML =
                switch kind {
                case .deadLetters: "<a href=\"/dead-letters\">\(kind.title)</a>"
                case .unknown: "<a href=\"/unknown\">\(kind.title)</a>"
                default: "\(kind.title)"
                }
            return
                "<li\(calls)><strong>\(number)</strong><span>\(link)</span><small>\(meaning(kind, count, sample))</small></li>"
        }
        return "<ul class=\"cards\">\(cards)</ul>"
    }

    private func meaning(_ kind: QueueSampler.Kind, _ count: Int?, _ sample: QueueSampler.Sample) -> String {
        guard let count else { return "There is no such queue. Workers make it when they start." }
        return switch kind {
        case .jobs where sample.consumers == 0: "No worker takes them."
        case .jobs: "\(sample.consumers ?? 0) \(sample.consumers == 1 ? "worker takes" : "workers take") them."
        case .retries: count == 0 ? "No job has to be tried again." : "They are tried again without you."
        case .follow:
            count == 0 ? "No task is being followed." : "Accepted; checked until their images are ready."
        case .deadLetters: count == 0 ? "No job has failed for good." : "Failed jobs that wait for a decision."
        case .unknown:
            count == 0 ? "The outcome of every submission is known." : "Nobody knows whether these were paid for."
        }
    }

    @HTMLBuilder private var fleet: HTML {
        if !state.hasLedger {
            Layout.empty("There is no ledger. Workers with journal.store=ledger share one, and are listed here.")
        } else if let fault = state.fleetFault {
            Layout.fault("The ledger cannot be read. \(fault)")
        } else if let fleet = state.fleet {
            gates(fleet)
            shares(fleet)
            replicas(fleet)
        } else {
            Layout.empty("The ledger is being read.")
        }
    }

    @HTMLBuilder private func gates(_ fleet: FleetView) -> HTML {
        if let reason = fleet.pausedFor {
            let who = fleet.pause.map { " by \($0.writer) at \(Timestamp(milliseconds: $0.at))" } ?? ""
            "<p class=\"calls note\">Paused\(who)\(reason.isEmpty ? "" : ": \(reason)"). No worker submits before it is resumed.</p>"
        }
        if let closure = fleet.closure {
            "<p class=\"calls note\">The gate is closed for all: \(closure.reason). \(Advice.gate(closure.reason))</p>"
        }
    }

    @HTMLBuilder private func shares(_ fleet: FleetView) -> HTML {
        let shares = [("Rate", fleet.latest?.rate, "starts"), ("Budget", fleet.latest?.budget, "images")]
        HTML(
            shares.compactMap { title, share, unit in
                share.map { share in
                    let limit = share.limit.split(separator: "/").first.flatMap { Int($0) } ?? max(1, share.used)
                    return """
                        <p class="share"><label>\(title): \(share.used) of \(share.limit) \(unit)
                        <meter min="0" max="\(limit)" value="\(min(share.used, limit))"></meter></label></p>
                        """
                }
            }
        )
    }

    private func replicas(_ fleet: FleetView) -> HTML {
        guard !fleet.replicas.isEmpty else {
            return Layout.empty("No worker with a ledger runs. Jobs wait in their queue until one does.")
        }
        let rows = fleet.replicas.map { replica -> [HTML] in
            let gate = replica.report.map { $0.gate ?? "open" } ?? "–"
            let seen = Duration.milliseconds(max(0, fleet.now.milliseconds - replica.lastSeen.milliseconds))
            return [
                "\(replica.writer)", "\(replica.version ?? "–")",
                "\(replica.report.map { Timestamp(milliseconds: $0.since).description } ?? "–")",
                "\(replica.report.map { String($0.inFlight) } ?? "–")",
                gate == "open" || gate == "–" ? "\(gate)" : "<span class=\"calls\">\(gate)</span>",
                "\(ShortDuration.text(seen)) ago",
            ]
        }
        return Layout.table(
            "Replicas",
            ["Replica", "Version", "Since", "In flight", "Gate", "Last seen"],
            rows,
            numbers: ["In flight"]
        )
    }

    /// Outside of what is replaced, so that what is being typed is kept.
    private var orders: HTML {
        guard state.hasLedger else { return "" }
        return """
            <section aria-labelledby="orders"><h2 id="orders">Pause and resume</h2><div class="orders">
            <form method="post" action="/fleet/pause">\(layout.token)<label for="reason">Reason</label>
            <input id="reason" name="reason" maxlength="200" autocomplete="off"><button>Pause all workers</button></form>
            <form method="post" action="/fleet/resume">\(layout.token)<button>Resume</button></form></div>
            <p class="hint">A pause takes effect within two seconds, and for workers that start later too. Jobs in flight
            are finished; all others wait.</p></section>
            """
    }
}
