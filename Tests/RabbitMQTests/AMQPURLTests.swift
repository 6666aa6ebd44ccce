import RabbitMQ
import Testing

struct AMQPURLTests {
    @Test(
        arguments: [
            ("amqp://guest:guest@127.0.0.1:5672/", "127.0.0.1", 5672, "/", "guest", "guest"),
            ("amqp://broker", "broker", 5672, "/", nil, nil),
            ("amqps://broker/", "broker", 5671, "/", nil, nil),
            ("AMQP://u@h/v", "h", 5672, "v", "u", ""),
            ("amqp://u%40x:p%3A%2F%3F@h:1/%2Fv%20w", "h", 1, "/v w", "u@x", "p:/?"),
            ("amqp://u:a@b@h/v", "h", 5672, "v", "u", "a@b"),
            ("amqp://[::1]:5673/v", "::1", 5673, "v", nil, nil),
            ("amqp://h:/v", "h", 5672, "v", nil, nil),
            ("amqp://%C3%BC:x@h/", "h", 5672, "/", "ü", "x"),
        ] as [(String, String, UInt16, String, String?, String?)]
    )
    func `a URL is read with its percent-encoding and defaults`(
        _ text: String,
        _ host: String,
        _ port: UInt16,
        _ virtualHost: String,
        _ user: String?,
        _ password: String?
    ) throws {
        let url = try AMQPURL(parsing: text)
        #expect(url.host == host)
        #expect(url.port == port)
        #expect(url.virtualHost == virtualHost)
        #expect(url.credentials?.user == user)
        #expect(url.credentials?.password == password)
        #expect(url.usesTLS == text.lowercased().hasPrefix("amqps"))
    }

    @Test(arguments: [
        "broker", "http://h/", "amqp://", "amqp://u:secret@/", "amqp://u:secret@h:0/", "amqp://u:secret@h:65536/",
        "amqp://u:secret@h:+1/", "amqp://u:secret@h/a/b", "amqp://u:secret@h/?x=1", "amqp://u:secret%@h/",
        "amqp://u:secret%zz@h/", "amqp://:secret@h/", "amqp://[::1/", "amqp://[::1]x/", "amqp://u:secret%FF@h/",
        "amqp://u:secret%00@h/", "amqp://u:secret%+1@h/", "amqp://u:7/secret@h", "amqp://u:7/secret@h/v",
        "amqps://u:secret/7@h", "amqp://h/secret@",
    ])
    func `a faulty URL is refused in words that never quote the password`(_ text: String) {
        #expect {
            try AMQPURL(parsing: text)
        } throws: { error in
            !"\(error)".isEmpty && !"\(error)".contains("secret")
        }
    }

    @Test func `the form for people has no credentials`() throws {
        let url = try AMQPURL(parsing: "amqps://u%40v:secret@[::1]/v")
        #expect(url.redacted == "amqps://[::1]:5671/v")
        #expect(url.redactedWithUser == "amqps://u%40v:<redacted>@[::1]:5671/v")
    }
}
