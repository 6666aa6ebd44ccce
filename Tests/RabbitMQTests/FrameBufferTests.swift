import CRabbitMQ
import Foundation
import Glibc
import TestSupport
import Testing

@testable import RabbitMQ

/// Our frames against librabbitmq's own, byte for byte.
@Suite struct FrameBufferTests {
    private static let frameMax = 4096

    /// What somebody writes to one end of a pair of sockets.
    private static func written(_ write: (Int32) throws -> Void) rethrows -> [UInt8] {
        var ends: [Int32] = [0, 0]
        _ = unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
        var size: Int32 = 1 << 20
        _ = unsafe setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        try write(ends[0])
        _ = shutdown(ends[0], Int32(SHUT_WR))
        var all: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = unsafe recv(ends[1], &piece, piece.count, 0), count > 0 { all += piece[..<count] }
        for end in ends { close(end) }
        return all
    }

    /// What librabbitmq writes for a call.
    private static func librabbitmq(_ call: (amqp_connection_state_t) -> Int32) throws -> [UInt8] {
        try written { descriptor in
            let state = unsafe try #require(amqp_new_connection())
            let socket = unsafe try #require(amqp_tcp_socket_new(state))
            // Closed by librabbitmq.
            unsafe amqp_tcp_socket_set_sockfd(socket, dup(descriptor))
            // It only writes once something has come: a protocol header.
            var header: [UInt8] = [0x41, 0x4D, 0x51, 0x50, 0, 0, 9, 1]
            unsafe header.withUnsafeMutableBytes { bytes in
                var frame = unsafe amqp_frame_t()
                let received = unsafe amqp_bytes_t(len: bytes.count, bytes: bytes.baseAddress)
                #expect(unsafe amqp_handle_input(state, received, &frame) == 8)
            }
            _ = unsafe amqp_tune_connection(state, 10, Int32(frameMax), 0)
            #expect(unsafe call(state) == AMQP_STATUS_OK.rawValue)
            unsafe amqp_destroy_connection(state)
        }
    }

    private static func text(_ random: inout SeededGenerator, upTo length: Int) -> ByteString {
        ByteString((0..<Int.random(in: 0...length, using: &random)).map { _ in .random(in: 0...255, using: &random) })
    }

    private static func message(_ random: inout SeededGenerator) -> OutboundMessage {
        var properties = MessageProperties()
        func sometimes(_ path: WritableKeyPath<MessageProperties, ByteString?>) {
            if .random(using: &random) { properties[keyPath: path] = text(&random, upTo: 60) }
        }
        for path in [\MessageProperties.contentType, \.correlationID, \.replyTo, \.messageID, \.type, \.appID] {
            sometimes(path)
        }
        if .random(using: &random) { properties.deliveryMode = 2 }
        if .random(using: &random) { properties.priority = .random(in: 0...9, using: &random) }
        if .random(using: &random) { properties.timestamp = .random(in: 0...(.max), using: &random) }
        if .random(using: &random) {
            properties.headers = [
                "x-a": .string(text(&random, upTo: 200)), "x-b": .int32(.random(in: (.min)...(.max), using: &random)),
                "x-c": .table(["y": .boolean(true), "z": .array([.int64(1), .void, .double(0.5)])]),
            ]
        }
        let sizes = [0, 1, 300, frameMax - 9, frameMax - 8, frameMax - 7, 3 * (frameMax - 8), 20_000]
        let size = sizes.randomElement(using: &random) ?? 0
        return OutboundMessage(
            exchange: text(&random, upTo: 20),
            routingKey: text(&random, upTo: 255),
            properties: properties,
            body: (0..<size).map { _ in .random(in: 0...255, using: &random) },
            mandatory: .random(using: &random)
        )
    }

    @Test(arguments: 0..<200) func `messages`(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let message = Self.message(&random)
        let arena = WireArena()
        let properties = unsafe arena.properties(message.properties)
        let exchange = unsafe arena.bytes(message.exchange)
        let key = unsafe arena.bytes(message.routingKey)
        let theirs = try unsafe Self.librabbitmq { state in
            var properties = unsafe properties
            return unsafe message.body.withUnsafeBytes { body in
                let bytes = unsafe amqp_bytes_t(
                    len: body.count,
                    bytes: UnsafeMutableRawPointer(mutating: body.baseAddress)
                )
                return unsafe amqp_basic_publish(
                    state,
                    1,
                    exchange,
                    key,
                    message.mandatory ? 1 : 0,
                    0,
                    &properties,
                    bytes
                )
            }
        }
        let frames = FrameBuffer()
        let publish = unsafe amqp_basic_publish_t(
            ticket: 0,
            exchange: exchange,
            routing_key: key,
            mandatory: message.mandatory ? 1 : 0,
            immediate: 0
        )
        let isAdded = unsafe frames.add(publish, properties, body: message.body, channel: 1, frameMax: Self.frameMax)
        #expect(isAdded)
        #expect(Self.sent(frames) == theirs)
    }

    @Test func `acknowledgements and rejections`() throws {
        let frames = FrameBuffer()
        var theirs: [UInt8] = []
        for number: UInt64 in [1, 255, 1 << 40, .max] {
            for flag: Int32 in [0, 1] {
                theirs += try unsafe Self.librabbitmq { unsafe amqp_basic_ack($0, 1, number, flag) }
                theirs += try unsafe Self.librabbitmq { unsafe amqp_basic_nack($0, 1, number, 0, flag) }
                let ack = amqp_basic_ack_t(delivery_tag: number, multiple: flag)
                let nack = amqp_basic_nack_t(delivery_tag: number, multiple: 0, requeue: flag)
                #expect(frames.add(AMQP_BASIC_ACK_METHOD, ack, channel: 1))
                #expect(frames.add(AMQP_BASIC_NACK_METHOD, nack, channel: 1))
            }
        }
        #expect(Self.sent(frames) == theirs)
    }

    @Test func `what does not fit leaves nothing behind`() throws {
        let frames = FrameBuffer()
        let ack = amqp_basic_ack_t(delivery_tag: 1, multiple: 0)
        let method = AMQP_BASIC_ACK_METHOD
        while frames.add(method, ack, channel: 1) {}
        let full = frames.count
        #expect(full > FrameBuffer.capacity - 30)
        let publish = unsafe amqp_basic_publish_t(
            ticket: 0,
            exchange: amqp_empty_bytes,
            routing_key: amqp_empty_bytes,
            mandatory: 0,
            immediate: 0
        )
        let body = [UInt8](repeating: 1, count: FrameBuffer.capacity)
        #expect(unsafe !frames.add(publish, amqp_basic_properties_t(), body: [], channel: 1, frameMax: 4096))
        #expect(frames.count == full)
        #expect(Self.sent(frames).count == full && frames.isEmpty)
        #expect(unsafe !frames.add(publish, amqp_basic_properties_t(), body: body, channel: 1, frameMax: 4096))
        #expect(frames.isEmpty)
    }

    @Test func `a socket that is full is waited for, and a closed one given up`() throws {
        var ends: [Int32] = [0, 0]
        _ = unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
        let (ours, theirs) = (ends[0], ends[1])
        _ = fcntl(ours, F_SETFL, O_NONBLOCK)
        let piece = [UInt8](repeating: 7, count: 1 << 16)
        var filled = 0
        while case let count = unsafe Glibc.send(ours, piece, piece.count, 0), count > 0 { filled += count }
        // A thread of its own: the wait below holds this one.
        let reader = Thread { [filled] in
            var room = [UInt8](repeating: 0, count: 1 << 16)
            var read = 0
            while case let count = unsafe recv(theirs, &room, room.count, 0), count > 0, read <= filled {
                read += count
            }
            close(theirs)
        }
        reader.start()
        let ack = amqp_basic_ack_t(delivery_tag: 1, multiple: 0)
        let frames = FrameBuffer()
        _ = frames.add(AMQP_BASIC_ACK_METHOD, ack, channel: 1)
        #expect(frames.send(to: ours, heartbeat: 0) == AMQP_STATUS_OK)
        // The reader stops within the frames, and closes its end.
        var status = AMQP_STATUS_OK
        while status == AMQP_STATUS_OK {
            _ = frames.add(AMQP_BASIC_ACK_METHOD, ack, channel: 1)
            status = frames.send(to: ours, heartbeat: 0)
        }
        #expect(status == AMQP_STATUS_SOCKET_ERROR && frames.isEmpty)
        close(ours)
    }

    private static func sent(_ frames: FrameBuffer) -> [UInt8] {
        written { descriptor in #expect(frames.send(to: descriptor, heartbeat: 0) == AMQP_STATUS_OK) }
    }
}
