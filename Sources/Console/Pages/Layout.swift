import OperatorTools

/// What a page has in common with all others.
struct Layout {
    /// The pages of the navigation.
    enum Place: String, CaseIterable {
        case overview = "/"
        case deadLetters = "/dead-letters"
        case unknown = "/unknown"
        case history = "/history"

        var title: String {
            switch self {
            case .overview: "Overview"
            case .deadLetters: "Dead letters"
            case .unknown: "Unknown outcomes"
            case .history: "History"
            }
        }
    }

    let options: ConsoleOptions
    let session: Sessions.Session
    let news: [String]

    /// A whole page; `place` is marked in the navigation.
    func page(_ title: String, at place: Place? = nil, job: String = "", _ content: HTML) -> HTML {
        let links = Place.allCases.map { link -> HTML in
            let current: HTML = link == place ? " aria-current=\"page\"" : ""
            return "<a href=\"\(link.rawValue)\"\(current)>\(link.title)</a>"
        }
        let logout: HTML =
            options.password == nil
            ? "" : "<form method=\"post\" action=\"/logout\">\(token)<button class=\"quiet\">Log out</button></form>"
        let header: HTML = """
            <header><nav aria-label="Pages">\(links)</nav>
            <form role="search" action="/job"><label for="find">Job id</label>
            <input id="find" name="id" value="\(job)" autocomplete="off" spellcheck="false"><button>Find</button></form>
            \(logout)</header>
            """
        let told: HTML =
            news.isEmpty ? "" : "<div class=\"news\" role=\"status\">\(news.map { "<p>\($0)</p>" as HTML })</div>"
        return Self.shell(
            title,
            queue: options.queueName,
            """
            \(header)<main id="main"><h1>\(title)</h1>\(told)\(content)</main>
            <footer>\(options.queueName) at \(options.broker.name) · seedream-worker \(options.version)</footer>
            """
        )
    }

    /// A page without a session: the login, and faults before it.
    static func shell(_ title: String, queue: String, _ body: HTML) -> HTML {
        """
        <!doctype html>
        <html lang="en"><head><meta charset="utf-8"><title>\(title) · \(queue)</title>
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <link rel="stylesheet" href="/style.css"><link rel="icon" href="/icon.svg">
        <script src="/script.js" defer></script></head>
        <body><a class="skip" href="#main">Skip to the content</a>\(body)</body></html>
        """
    }

    /// What every form carries.
    var token: HTML { Self.hidden("token", session.formToken) }

    static func hidden(_ name: String, _ value: String) -> HTML {
        "<input type=\"hidden\" name=\"\(name)\" value=\"\(value)\">"
    }

    /// A table; columns of `numbers` are aligned as numbers are.
    static func table(_ caption: String, _ headings: [String], _ rows: [[HTML]], numbers: Set<String> = []) -> HTML {
        func mark(_ heading: String) -> HTML { numbers.contains(heading) ? " class=\"number\"" : "" }
        let head = headings.map { "<th scope=\"col\"\(mark($0))>\($0)</th>" as HTML }
        let body = rows.map { cells -> HTML in
            "<tr>\(zip(headings, cells).map { "<td data-label=\"\($0)\"\(mark($0))>\($1)</td>" as HTML })</tr>"
        }
        return """
            <div class="table" tabindex="0" role="region" aria-label="\(caption)"><table>
            <caption class="unseen">\(caption)</caption><thead><tr>\(head)</tr></thead><tbody>\(body)</tbody></table></div>
            """
    }

    /// Names and values one under the other; those without a value are left out.
    static func facts(_ facts: [(String, HTML?)]) -> HTML {
        let rows = facts.compactMap { name, value in value.map { "<dt>\(name)</dt><dd>\($0)</dd>" as HTML } }
        return "<dl>\(rows)</dl>"
    }

    static func fault(_ words: String) -> HTML { "<p class=\"fault\" role=\"alert\">\(words)</p>" }

    static func empty(_ words: String) -> HTML { "<p class=\"empty\">\(words)</p>" }
}
