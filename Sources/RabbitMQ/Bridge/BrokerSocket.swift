import CRabbitMQ
import Glibc

/// librabbitmq's connection with one working channel, in Swift's types: synchronous, for one thread.
///
/// Not `Sendable`: an actor owns it, and rabbitmq-c's rule (one thread per connection) becomes the compiler's.
/// Every function throws `AMQPError`; `isUsable` tells whether the connection goes on after it.
@safe final class BrokerSocket {
    /// The channel for consuming, acknowledging and publishing.
    static let workingChannel: amqp_channel_t = 1
    /// The channel for operations that may fail, because a 404 or 406 closes the channel that asked.
    static let throwawayChannel: amqp_channel_t = 2

    let state: amqp_connection_state_t
    let arena = WireArena()
    /// What waits to be sent; nil with TLS, where only librabbitmq can write.
    private let frames: FrameBuffer?
    private var assembler: FrameAssembler

    /// False once a failure has ended the connection or its working channel; a refusal on the throwaway channel does
    /// not.
    private(set) var isUsable = true
    var isThrowawayOpen = false
    private var isCorked = false

    /// Connects, logs in with all capabilities, and opens the working channel; waits as long as the options allow.
    ///
    /// Deliveries are acknowledged by `acknowledger`, which must outlive this.
    init(
        _ url: AMQPURL,
        options: AMQPConnectionOptions,
        epoch: UInt64,
        acknowledger: any Acknowledger
    ) throws(AMQPError) {
        guard let state = unsafe amqp_new_connection() else {
            throw AMQPError(.protocolViolation, "librabbitmq has no memory for a connection")
        }
        unsafe self.state = state
        frames = url.usesTLS ? nil : FrameBuffer()
        assembler = FrameAssembler(epoch: epoch, options: options, acknowledger: acknowledger)
        do {
            try connect(url, options)
            var timeout = timeval(options.connectTimeout)
            _ = unsafe amqp_set_handshake_timeout(state, &timeout)
            timeout = timeval(options.rpcTimeout)
            _ = unsafe amqp_set_rpc_timeout(state, &timeout)
            try logIn(url, options: options)
            _ = unsafe amqp_channel_open(state, Self.workingChannel)
            try checkReply("opening a channel")
        } catch {
            throw error.naming(url)
        }
    }

    deinit {
        unsafe amqp_destroy_connection(state)
    }

    /// The socket, for `poll`.
    var descriptor: Int32 { unsafe amqp_get_sockfd(state) }

    /// The largest header frame that the broker takes, in bytes.
    var negotiatedFrameMax: Int { Int(unsafe amqp_get_frame_max(state)) }

    /// The interval that both sides agreed on, in seconds.
    var negotiatedHeartbeat: Int { Int(unsafe amqp_get_heartbeat(state)) }

    /// The broker's version as it says itself, empty if it says none.
    var brokerVersion: String {
        guard let table = unsafe amqp_get_server_properties(state) else { return "" }
        return unsafe FieldTable(copying: table.pointee)["version"]?.text ?? ""
    }

    private func connect(_ url: AMQPURL, _ options: AMQPConnectionOptions) throws(AMQPError) {
        guard let socket = unsafe url.usesTLS ? amqp_ssl_socket_new(state) : amqp_tcp_socket_new(state) else {
            throw AMQPError(.protocolViolation, "librabbitmq has no memory for a socket")
        }
        if url.usesTLS { try unsafe secure(socket, options.tls) }
        var limit = timeval(options.connectTimeout)
        let status = unsafe amqp_socket_open_noblock(socket, url.host, Int32(url.port), &limit)
        guard status == AMQP_STATUS_OK.rawValue else {
            let failure = AMQPError(status: status, while: "connecting")
            switch failure.code {
            case .connectionLost where url.usesTLS && status == AMQP_STATUS_SSL_ERROR.rawValue:
                throw AMQPError(.tls, failure.message)
            case .connectionLost: throw AMQPError(.unreachable, "nothing accepts the connection")
            default: throw failure
            }
        }
    }

    /// Trap: plain `amqp_login` advertises none of these, and a deleted queue or a blocked broker is then silence.
    private func logIn(_ url: AMQPURL, options: AMQPConnectionOptions) throws(AMQPError) {
        let capabilities: FieldTable = [
            "authentication_failure_close": .boolean(true),
            "basic.nack": .boolean(true),
            "connection.blocked": .boolean(true),
            "consumer_cancel_notify": .boolean(true),
            "exchange_exchange_bindings": .boolean(true),
            "publisher_confirms": .boolean(true),
        ]
        var properties = unsafe arena.table([
            "product": .text(options.product),
            "connection_name": .text(options.name),
            "capabilities": .table(capabilities),
        ])
        defer { arena.recycle() }
        let heartbeat = Int32(clamping: options.heartbeat.components.seconds)
        guard url.credentials != nil || options.tls.certFile == nil else {
            // The certificate is the identity (SASL EXTERNAL), where the URL names no user.
            let reply = unsafe seedream_login_external(
                state,
                url.virtualHost,
                0,
                Int32(AMQPConnectionOptions.frameMax),
                heartbeat,
                &properties
            )
            return try unsafe checkLogin(reply, "logging in with a certificate")
        }
        let reply = unsafe seedream_login_plain(
            state,
            url.virtualHost,
            0,
            Int32(AMQPConnectionOptions.frameMax),
            heartbeat,
            &properties,
            url.credentials?.user ?? "guest",
            url.credentials?.password ?? "guest"
        )
        try unsafe checkLogin(reply, "logging in")
    }

    /// With TLS 1.3 the client learns only now that the broker has refused its certificate, or wanted one.
    private func checkLogin(_ reply: amqp_rpc_reply_t, _ doing: String) throws(AMQPError) {
        guard let failure = unsafe AMQPError.failure(of: reply, while: doing) else { return }
        guard unsafe reply.library_error == AMQP_STATUS_SSL_ERROR.rawValue else { throw failure }
        throw AMQPError(
            .tls,
            failure.message,
            remedy: "check the client certificate and its key: the broker may refuse the certificate, or want one"
        )
    }

    // MARK: - Reading

    /// The next event that is there already, nil if none is: never waits.
    ///
    /// Also the place where librabbitmq sends our heartbeats and notices missing ones of the broker.
    func nextEvent() throws(AMQPError) -> BrokerEvent? {
        while true {
            var frame = unsafe amqp_frame_t()
            var none = timeval()
            let status = unsafe amqp_simple_wait_frame_noblock(state, &frame, &none)
            guard status != AMQP_STATUS_TIMEOUT.rawValue else { return nil }
            guard status == AMQP_STATUS_OK.rawValue else {
                throw AMQPError(status: status, while: "reading from the broker")
            }
            if let event = unsafe try assembler.take(frame) { return event }
            // A large body has many frames: all of them at once would be as large as it is.
            if unsafe Int32(frame.frame_type) == AMQP_FRAME_BODY { releaseFrames() }
        }
    }

    /// Gives librabbitmq's memory for the frames read so far back to it, once it has put no others aside: with those it looks
    /// through all of them each time.
    func releaseFrames() {
        guard unsafe amqp_frames_enqueued(state) == 0 else { return }
        unsafe amqp_maybe_release_buffers(state)
    }

    // MARK: - Writing

    // What is written leaves with the next `flush`, or together with more that has not left yet.

    /// Sends what is written so far.
    ///
    /// Blocks while the socket is full.
    func flush() throws(AMQPError) {
        guard let frames, !frames.isEmpty else { return setCork(0) }
        try check(frames.send(to: descriptor, heartbeat: negotiatedHeartbeat).rawValue, "writing to the broker")
    }

    /// Lets the kernel gather what librabbitmq writes with TLS into full segments, until the next `flush` or for 0.2 s.
    ///
    /// Never waits, and changes nothing but the number of packets. Source: `tcp(7)`, `TCP_CORK`.
    private func setCork(_ value: Int32) {
        guard frames == nil, isCorked != (value != 0) else { return }
        isCorked = value != 0
        // If the kernel refuses, packets are smaller; nothing else is.
        _ = unsafe withUnsafeBytes(of: value) { value in
            unsafe setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_CORK, value.baseAddress, socklen_t(value.count))
        }
    }

    /// Publishes on the working channel.
    func publish(_ message: OutboundMessage) throws(AMQPError) {
        defer { arena.recycle() }
        let properties = unsafe arena.properties(message.properties)
        let publish = unsafe amqp_basic_publish_t(
            ticket: 0,
            exchange: arena.bytes(message.exchange),
            routing_key: arena.bytes(message.routingKey),
            mandatory: message.mandatory ? 1 : 0,
            immediate: 0
        )
        // What does not fit behind the others may fit alone.
        for _ in 0..<2 {
            guard let frames else { break }
            let isAdded = unsafe frames.add(
                publish,
                properties,
                body: message.body,
                channel: Self.workingChannel,
                frameMax: negotiatedFrameMax
            )
            if isAdded { return }
            try flush()
        }
        setCork(1)
        var copy = unsafe properties
        let status = unsafe message.body.withUnsafeBytes { body in
            // librabbitmq only reads the body; its structure just lacks the `const`.
            let bytes = unsafe amqp_bytes_t(len: body.count, bytes: UnsafeMutableRawPointer(mutating: body.baseAddress))
            return unsafe amqp_basic_publish(
                state,
                Self.workingChannel,
                publish.exchange,
                publish.routing_key,
                publish.mandatory,
                0,
                &copy,
                bytes
            )
        }
        try check(status, "publishing")
    }

    /// Acknowledges one delivery, or all up to it.
    func acknowledge(_ acknowledgement: AcknowledgementLedger.Acknowledgement) throws(AMQPError) {
        let multiple: amqp_boolean_t = acknowledgement.multiple ? 1 : 0
        let fields = amqp_basic_ack_t(delivery_tag: acknowledgement.number, multiple: multiple)
        try write(AMQP_BASIC_ACK_METHOD, fields, "acknowledging")
    }

    private func write<Fields: BitwiseCopyable>(
        _ method: amqp_method_number_t,
        _ fields: Fields,
        _ doing: String
    ) throws(AMQPError) {
        if let frames {
            if frames.add(method, fields, channel: Self.workingChannel) { return }
            try flush()
            if frames.add(method, fields, channel: Self.workingChannel) { return }
        }
        var fields = fields
        try check(unsafe amqp_send_method(state, Self.workingChannel, method, &fields), doing)
    }

    /// Gives one delivery back to its queue, or lets the broker drop or dead-letter it.
    ///
    /// By `basic.nack`: from RabbitMQ 4.3 what it gives back does not count towards the delivery limit, what
    /// `basic.reject` gives back does. Source: RabbitMQ's "Quorum Queues", "Poison Message Handling".
    func reject(_ number: UInt64, requeue: Bool) throws(AMQPError) {
        let fields = amqp_basic_nack_t(delivery_tag: number, multiple: 0, requeue: requeue ? 1 : 0)
        try write(AMQP_BASIC_NACK_METHOD, fields, "rejecting")
    }

    /// Throws where the last question was answered by a refusal; a closed channel is acknowledged, so that its number
    /// can be used again.
    func checkReply(_ doing: String) throws(AMQPError) {
        try unsafe check(amqp_get_rpc_reply(state), doing)
    }

    func check(_ reply: amqp_rpc_reply_t, _ doing: String) throws(AMQPError) {
        guard let failure = unsafe AMQPError.failure(of: reply, while: doing) else { return }
        if isThrowawayOpen, unsafe reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION,
            unsafe reply.reply.id == amqp_method_number_t(AMQP_CHANNEL_CLOSE_METHOD)
        {
            var answer = amqp_channel_close_ok_t()
            _ = unsafe amqp_send_method(
                state,
                Self.throwawayChannel,
                amqp_method_number_t(AMQP_CHANNEL_CLOSE_OK_METHOD),
                &answer
            )
        } else {
            isUsable = false
        }
        throw failure
    }

    func check(_ status: Int32, _ doing: String) throws(AMQPError) {
        guard status == AMQP_STATUS_OK.rawValue else {
            isUsable = false
            throw AMQPError(status: status, while: doing)
        }
    }
}

extension AMQPError {
    /// The same failure, with the broker that it happened at.
    fileprivate func naming(_ url: AMQPURL) -> AMQPError {
        AMQPError(code, "\(url.redacted): \(message)", remedy: remedy, replyCode: replyCode, cause: cause)
    }
}

extension timeval {
    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        self.init(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
    }
}
