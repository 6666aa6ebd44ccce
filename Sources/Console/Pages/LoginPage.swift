/// The only page that who has not logged in can see.
struct LoginPage {
    let options: ConsoleOptions
    let session: Sessions.Session
    /// The page that was asked for.
    let target: String
    var fault: String?

    var html: HTML {
        Layout.shell(
            "Log in",
            queue: options.queueName,
            """
            <main id="main" class="login"><h1>\(options.queueName)</h1>\(fault.map { Layout.fault($0) } ?? "")
            <form method="post" action="/login">\(Layout.hidden("token", session.formToken))\(Layout.hidden("to", target))
            <label for="password">Password</label>
            <input id="password" name="password" type="password" autocomplete="current-password" autofocus required>
            <button class="primary">Log in</button></form></main>
            """
        )
    }
}
